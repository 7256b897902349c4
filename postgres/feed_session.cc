#include "postgres/feed_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "postgres/feed_startup.h"

namespace slipstream::postgres {
namespace {

constexpr std::size_t kMessageBytesMax = 64 * 1024;  // Of a client: commands and replies are short.
constexpr std::size_t kOutputBytesMax = 256 * 1024;  // From here on nothing more is built.
constexpr Duration kStartupTimeout = seconds(60);    // PostgreSQL's authentication_timeout.

// PostgreSQL's parse_bool.
bool is_true(std::string_view text) {
  return text == "1" || text == "t" || text == "true" || text == "on" || text == "y" || text == "yes";
}

std::string_view text_of(std::span<const std::byte> body) {
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  return text.substr(0, text.find('\0'));
}

}  // namespace

FeedSession::FeedSession(const FeedContext& context, std::uint32_t pid, std::optional<FeedError> refusal, Instant now)
    : context_(context), pid_(pid), refusal_(std::move(refusal)), heard_at_(now) {}

// Answers wait while the client does not take them, so that one who only asks cannot fill our memory. What a standby
// reports while it lags is wanted all the more.
bool FeedSession::may_answer() const { return state_ == State::kStreaming || output().size() < kOutputBytesMax; }

bool FeedSession::wants_input() const { return state_ != State::kEnded && may_answer(); }

void FeedSession::on_bytes(std::span<const std::byte> bytes, const node::Release& release, Instant now) {
  in_.insert(in_.end(), bytes.begin(), bytes.end());
  process(release, now);
}

void FeedSession::process(const node::Release& release, Instant now) {
  std::span<const std::byte> rest(in_);
  bool more = true;
  while (more && state_ != State::kEnded && may_answer())
    more = state_ == State::kStartup ? take_startup(rest) : take_message(rest, release, now);
  in_.erase(in_.begin(), in_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  if (state_ == State::kEnded) in_.clear();
}

// ---- Start-up

bool FeedSession::take_startup(std::span<const std::byte>& rest) {
  if (rest.size() < 4) return false;
  const auto length = ByteReader(rest).be<std::uint32_t>();
  if (length < 8 || length > kStartupBytesMax) {
    fatal({"08P01", "invalid length of startup packet"});
    return false;
  }
  if (rest.size() < length) return false;
  on_startup(rest.first(length));
  rest = rest.subspan(length);
  return true;
}

void FeedSession::on_startup(std::span<const std::byte> packet) {
  const auto startup = parse_startup(packet);
  if (!startup) return fatal(startup.error());
  switch (startup->kind) {
    case FeedStartup::Kind::kEncryption:
      // Once for SSL and once for GSSAPI; a client that insists is not one.
      if (++encryption_requests_ > 2) return fatal({"08P01", "encryption was refused already"});
      return out_.refuse_encryption();
    case FeedStartup::Kind::kCancel:
      state_ = State::kEnded;
      return;
    case FeedStartup::Kind::kStart:
      break;
  }
  if (refusal_) return fatal(*refusal_);
  if (startup->user.empty()) return fatal({"28000", "no PostgreSQL user name specified in startup packet"});
  if (startup->replication == "database")
    return fatal(
        {"0A000", "a replica's feed streams physical WAL only", "", "Connect to the primary for logical replication."});
  if (!is_true(startup->replication))
    return fatal(
        {"0A000",
         "this socket is the feed of a slipstream replica: it speaks PostgreSQL's physical replication protocol only",
         "", "Connect to the standby's own socket for SQL, or add replication=true to read the replica's log."});
  application_name_ = startup->application_name;
  greet(startup->unknown_options, startup->minor);
}

void FeedSession::greet(std::span<const std::string> unknown_options, std::uint32_t minor) {
  if (minor > 0 || !unknown_options.empty()) out_.negotiate_version(unknown_options);
  out_.authentication_ok();
  const std::uint32_t version = context_.server_version_num;
  out_.parameter_status("server_version", fmt::format("{}.{}", version / 10000, version % 10000));
  out_.parameter_status("application_name", application_name_);
  // A feed is what a primary would be to this client.
  constexpr std::pair<std::string_view, std::string_view> kParameters[] = {{"in_hot_standby", "off"},
                                                                           {"default_transaction_read_only", "off"},
                                                                           {"integer_datetimes", "on"},
                                                                           {"standard_conforming_strings", "on"},
                                                                           {"server_encoding", "UTF8"},
                                                                           {"client_encoding", "UTF8"},
                                                                           {"DateStyle", "ISO, MDY"},
                                                                           {"IntervalStyle", "postgres"},
                                                                           {"TimeZone", "GMT"},
                                                                           {"is_superuser", "off"},
                                                                           {"session_authorization", "slipstream"}};
  for (const auto& [name, value] : kParameters) out_.parameter_status(name, value);
  out_.backend_key_data(pid_, 0);
  out_.ready_for_query();
  state_ = State::kCommands;
}

// ---- Messages

bool FeedSession::take_message(std::span<const std::byte>& rest, const node::Release& release, Instant now) {
  if (rest.size() < 5) return false;
  ByteReader reader(rest);
  const auto tag = static_cast<char>(reader.be<std::uint8_t>());
  const auto length = reader.be<std::uint32_t>();
  if (length < 4 || length > kMessageBytesMax) {
    fatal({"08P01", fmt::format("invalid message length {} of a message of type 0x{:02x}", length,
                                static_cast<unsigned char>(tag))});
    return false;
  }
  if (rest.size() < 1 + std::size_t{length}) return false;
  const auto body = rest.subspan(5, length - 4);
  rest = rest.subspan(1 + std::size_t{length});
  heard_at_ = now;
  on_message(tag, body, release, now);
  return true;
}

void FeedSession::on_message(char tag, std::span<const std::byte> body, const node::Release& release, Instant now) {
  if (tag == 'X') {
    state_ = State::kEnded;
    abandoned_ = true;
  } else if (state_ == State::kStreaming) {
    on_streaming_message(tag, body, release, now);
  } else {
    on_idle_message(tag, body, release, now);
  }
}

void FeedSession::on_idle_message(char tag, std::span<const std::byte> body, const node::Release& release,
                                  Instant now) {
  const bool extended = std::string_view("PBEDCFH").find(tag) != std::string_view::npos;
  if (tag == 'S') {
    skipping_ = false;
    out_.ready_for_query();
  } else if (extended) {
    if (skipping_ || tag == 'H') return;
    out_.error(BackendMessages::Severity::kError,
               {"08P01", "extended query protocol not supported in a replication connection"});
    skipping_ = true;
  } else if (tag == 'Q') {
    if (body.empty() || body.back() != std::byte{0}) return fatal({"08P01", "invalid string in message"});
    if (!skipping_) on_query(text_of(body), release, now);
  } else if (tag != 'd' && tag != 'c' && tag != 'f') {
    // Those three may still be under way when a stream has ended.
    fatal({"08P01", fmt::format("invalid frontend message type 0x{:02x}", static_cast<unsigned char>(tag))});
  }
}

void FeedSession::on_streaming_message(char tag, std::span<const std::byte> body, const node::Release& release,
                                       Instant now) {
  if (tag == 'd') return on_copy_data(body, release, now);
  if (tag != 'c')
    return fatal({"08P01", fmt::format("invalid standby message type 0x{:02x}", static_cast<unsigned char>(tag))});
  if (!done_sending_) out_.copy_done();
  done_sending_ = done_receiving_ = true;
  end_stream();
}

void FeedSession::on_copy_data(std::span<const std::byte> message, const node::Release& release, Instant now) {
  if (const auto status = decode_standby_status(message)) {
    if (!status_ || status->apply > status_->apply) {
      asks_ = 0;
      ask_at_ = now + milliseconds(10);
    }
    status_ = *status;
    if (status->reply_requested && output().size() < kOutputBytesMax) send_keepalive(release, false, now);
  } else if (const auto feedback = decode_feedback(message)) {
    feedback_ = *feedback;
  } else {
    const unsigned char tag = message.empty() ? std::uint8_t{0} : static_cast<unsigned char>(message[0]);
    fatal({"08P01",
           fmt::format("a standby's message of {} bytes and type 0x{:02x} is neither a reply nor hot standby feedback",
                       message.size(), tag)});
  }
}

// ---- Answers

void FeedSession::answer(std::span<const BackendMessages::Column> columns,
                         std::span<const BackendMessages::Value> values, std::string_view tag) {
  if (!columns.empty()) {
    out_.row_description(columns);
    out_.data_row(values);
  }
  out_.command_complete(tag);
  out_.ready_for_query();
}

void FeedSession::answer(const FeedError& error) {
  out_.error(BackendMessages::Severity::kError, error);
  out_.ready_for_query();
  state_ = State::kCommands;
}

void FeedSession::fatal(const FeedError& error) {
  out_.error(BackendMessages::Severity::kFatal, error);
  state_ = State::kEnded;
}

void FeedSession::say_goodbye() {
  if (state_ == State::kEnded) return;
  // A walsender's own end at a shutdown; the standby waits and comes again.
  if (state_ == State::kStreaming)
    out_.command_complete("COPY 0");
  else if (state_ == State::kCommands)
    out_.error(BackendMessages::Severity::kFatal, {"57P01", "terminating connection due to administrator command"});
  state_ = State::kEnded;
}

// ---- Time

void FeedSession::advance(const node::Release& release, Instant now) {
  process(release, now);
  if (state_ == State::kStartup && now >= heard_at_ + kStartupTimeout) {
    state_ = State::kEnded;
    abandoned_ = true;
  }
  if (state_ != State::kStreaming) return;
  send_wal(release, now);
  if (state_ == State::kStreaming) keep_alive(release, now);
}

Instant FeedSession::deadline() const {
  if (state_ == State::kStartup) return heard_at_ + kStartupTimeout;
  if (state_ != State::kStreaming) return kNever;
  return std::min({keepalive_at_, behind() ? ask_at_ : kNever, heard_at_ + context_.receive_timeout});
}

}  // namespace slipstream::postgres
