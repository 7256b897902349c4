#include "postgres/feed_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/bytes.h"

namespace slipstream::postgres {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMessageBytesMax = 64 * 1024;    // Of a client: commands and status are short.
constexpr std::size_t kOutBytesMax = 1 << 20;          // Unsent bytes beyond which nothing more is read from the log.
constexpr std::size_t kWalBytesMax = 128 * 1024;
constexpr milliseconds kIdleKeepalive{2000};
constexpr std::uint32_t kProtocol3 = 3;
constexpr std::uint32_t kSslRequest = 80877103, kGssRequest = 80877104, kCancelRequest = 80877102;

std::string version_text(std::uint32_t number) { return fmt::format("{}.{}", number / 10000, number % 10000); }

}  // namespace

FeedServer::Client::Client(FeedServer& server, int fd, bool allowed) : server_(server), fd_(fd), allowed_(allowed) {}

FeedServer::Client::~Client() {
  if (segment_fd_ >= 0) close(segment_fd_);
  close(fd_);
}

Lsn FeedServer::Client::needed_from() const {
  if (!streaming()) return Lsn{UINT64_MAX};
  return standby_ ? std::min(status_.flush, status_.apply).value == 0 ? sent_end_ : std::min(status_.flush, status_.apply) : sent_end_;
}

void FeedServer::Client::end() { ended_ = true; }

void FeedServer::Client::on_readable() {
  std::byte buffer[16384];
  const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return end();
  if (got > 0) in_.insert(in_.end(), buffer, buffer + got);
  while (!ended_ && state_ != State::kClosing && (state_ == State::kStartup ? take_startup() : take_message())) {
  }
}

bool FeedServer::Client::take_startup() {
  if (in_.size() < 8) return false;
  ByteReader reader(in_);
  const auto length = reader.be<std::uint32_t>(), code = reader.be<std::uint32_t>();
  if (length < 8 || length > 10000) {
    fatal("08P01", "invalid length of startup packet");
    return false;
  }
  if (in_.size() < length) return false;
  const std::vector<std::byte> body(in_.begin() + 8, in_.begin() + length);
  in_.erase(in_.begin(), in_.begin() + length);
  on_startup(code, body);
  return true;
}

void FeedServer::Client::on_startup(std::uint32_t code, std::span<const std::byte> body) {
  if (code == kSslRequest || code == kGssRequest) {
    out_.bytes().push_back(std::byte{'N'});
    return;
  }
  if (code == kCancelRequest) return end();
  if (code >> 16 != kProtocol3) return fatal("0A000", fmt::format("unsupported frontend protocol {}.{}", code >> 16, code & 0xffff));
  std::map<std::string, std::string> parameters;
  std::string_view rest(reinterpret_cast<const char*>(body.data()), body.size());
  while (!rest.empty() && rest[0] != '\0') {
    const auto key_end = rest.find('\0'), value_end = key_end == std::string_view::npos ? key_end : rest.find('\0', key_end + 1);
    if (value_end == std::string_view::npos) return fatal("08P01", "invalid startup packet layout: expected terminator as last byte");
    parameters[std::string(rest.substr(0, key_end))] = rest.substr(key_end + 1, value_end - key_end - 1);
    rest.remove_prefix(value_end + 1);
  }
  if (!allowed_) return fatal("28000", "peer authentication failed: this operating-system user may not read the log", "add it to replica.feed.allow_users");
  const std::string& replication = parameters["replication"];
  if (replication != "true" && replication != "on" && replication != "yes" && replication != "1")
    return fatal("0A000", "this is a slipstream replica's feed: it speaks the replication protocol only", "connect to the standby itself for SQL, or add replication=true");
  application_name_ = parameters["application_name"];
  if ((code & 0xffff) != 0) out_.negotiate(0);
  out_.authentication_ok();
  const auto& version = server_.options_.server_version_num;
  for (const auto& [name, value] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"server_version", version_text(version)}, {"server_encoding", "UTF8"}, {"client_encoding", "UTF8"}, {"in_hot_standby", "off"},
           {"default_transaction_read_only", "off"}, {"integer_datetimes", "on"}, {"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"},
           {"TimeZone", "UTC"}, {"standard_conforming_strings", "on"}, {"is_superuser", "on"}, {"session_authorization", "slipstream"}, {"application_name", application_name_}})
    out_.parameter(name, value);
  out_.key_data(static_cast<std::uint32_t>(getpid()), 0);
  out_.ready();
  state_ = State::kCommands;
}

bool FeedServer::Client::take_message() {
  if (in_.size() < 5) return false;
  ByteReader reader(in_);
  const auto tag = static_cast<char>(reader.le<std::uint8_t>());
  const auto length = reader.be<std::uint32_t>();
  if (length < 4 || length > kMessageBytesMax) {
    fatal("08P01", fmt::format("invalid message length {}", length));
    return false;
  }
  if (in_.size() < 1 + std::size_t{length}) return false;
  const std::vector<std::byte> body(in_.begin() + 5, in_.begin() + 1 + length);
  in_.erase(in_.begin(), in_.begin() + 1 + length);
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  if (tag == 'X') {
    end();
  } else if (state_ == State::kStreaming && tag == 'd') {
    on_copy_data(body);
  } else if (state_ == State::kStreaming && tag == 'c') {
    out_.copy_done();
    out_.complete("COPY 0");
    out_.ready();
    if (standby_) server_.push(node::StandbyLost{});
    state_ = State::kCommands;
  } else if (state_ == State::kCommands && tag == 'Q') {
    on_query(text.substr(0, text.find('\0')));
  } else if (tag != 'd' && tag != 'c' && tag != 'f' && tag != 'H' && tag != 'S') {
    fatal("08P01", fmt::format("unexpected message type 0x{:02X} on the feed", static_cast<unsigned char>(tag)));
    return false;
  }
  return true;
}

void FeedServer::Client::answer_row(std::span<const Messages::Column> columns, std::span<const std::optional<std::string>> values, std::string_view tag) {
  out_.row_description(columns);
  if (!values.empty()) out_.data_row(values);
  out_.complete(tag);
  out_.ready();
}

void FeedServer::Client::answer_error(std::string_view code, std::string_view message, std::string_view hint) {
  out_.error("ERROR", code, message, "", hint);
  out_.ready();
}

void FeedServer::Client::fatal(std::string_view code, std::string_view message, std::string_view hint) {
  out_.error("FATAL", code, message, "", hint);
  state_ = State::kClosing;
}

void FeedServer::Client::on_query(std::string_view query) {
  using Column = Messages::Column;
  using Value = std::optional<std::string>;
  const FeedOptions& options = server_.options_;
  const ReplicationCommand command = parse_command(query);
  release_ = server_.released();
  switch (command.kind) {
    case ReplicationCommand::Kind::kIdentifySystem: {
      const Column columns[] = {{"systemid"}, {"timeline", 23}, {"xlogpos"}, {"dbname"}};
      const Value values[] = {std::to_string(options.system.value), std::to_string(release_.timeline.value), to_string(release_.fed_end), std::nullopt};
      return answer_row(columns, values, "IDENTIFY_SYSTEM");
    }
    case ReplicationCommand::Kind::kShow: {
      const std::uint64_t mb = options.segment_size.value >> 20;
      const std::string value = command.name == "wal_segment_size"      ? mb >= 1024 ? fmt::format("{}GB", mb / 1024) : fmt::format("{}MB", mb)
                                : command.name == "data_directory_mode" ? "0700"
                                : command.name == "server_version"      ? version_text(options.server_version_num)
                                : command.name == "server_version_num"  ? std::to_string(options.server_version_num)
                                                                        : "";
      if (value.empty()) return answer_error("42704", fmt::format("unrecognized configuration parameter \"{}\"", command.name), "this is a slipstream replica's feed");
      const Column columns[] = {{command.name}};
      const Value values[] = {value};
      return answer_row(columns, values, "SHOW");
    }
    case ReplicationCommand::Kind::kTimelineHistory: {
      const std::string name = wal::history_file_name(TimelineId{command.timeline});
      const int fd = open((options.wal_directory / name).c_str(), O_RDONLY | O_CLOEXEC);
      if (fd < 0) return answer_error("58P01", fmt::format("could not open file \"pg_wal/{}\": No such file or directory", name));
      std::string content(1 << 16, '\0');
      const ssize_t got = read(fd, content.data(), content.size());
      close(fd);
      content.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
      const Column columns[] = {{"filename"}, {"content"}};
      const Value values[] = {name, content};
      return answer_row(columns, values, "TIMELINE_HISTORY");
    }
    case ReplicationCommand::Kind::kCreateSlot: {
      // The replica keeps what its readers need anyway, so a slot here is only a name.
      if (command.logical) return answer_error("0A000", "a replica's feed has no logical slots", "create it on the primary");
      const Column columns[] = {{"slot_name"}, {"consistent_point"}, {"snapshot_name"}, {"output_plugin"}};
      const Value values[] = {command.name, "0/0", std::nullopt, std::nullopt};
      return answer_row(columns, values, "CREATE_REPLICATION_SLOT");
    }
    case ReplicationCommand::Kind::kReadSlot: {
      const Column columns[] = {{"slot_type"}, {"restart_lsn"}, {"restart_tli", 20}};
      const Value values[] = {std::nullopt, std::nullopt, std::nullopt};
      return answer_row(columns, values, "READ_REPLICATION_SLOT");
    }
    case ReplicationCommand::Kind::kDropSlot:
      out_.complete("DROP_REPLICATION_SLOT");
      return out_.ready();
    case ReplicationCommand::Kind::kSetConfig: {
      const Column columns[] = {{"set_config"}};
      const Value values[] = {""};
      return answer_row(columns, values, "SELECT");
    }
    case ReplicationCommand::Kind::kStart: return on_start(command);
    case ReplicationCommand::Kind::kBaseBackup: return answer_error("0A000", "a replica's feed makes no base backups", "take it from the primary, or use slipstream init-standby");
    case ReplicationCommand::Kind::kOther: break;
  }
  if (query.find_first_not_of(" \t\r\n;") == std::string_view::npos) {
    out_.empty_query();
    return out_.ready();
  }
  answer_error("42601", "a replica's feed understands replication commands only", "connect to the standby itself for SQL");
}

void FeedServer::Client::on_start(const ReplicationCommand& command) {
  const FeedOptions& options = server_.options_;
  if (command.logical) return answer_error("0A000", "a replica's feed streams physical WAL only");
  if (command.timeline != 0 && command.timeline != release_.timeline.value)
    return answer_error("22023", fmt::format("requested timeline {} is not the one this replica is on ({})", command.timeline, release_.timeline.value));
  if (command.start.value < server_.log_begin_) {
    // PostgreSQL's own words: the standby retries on them, and people find them in its documentation.
    const wal::SegmentLayout layout(options.segment_size);
    return answer_error("58P01", fmt::format("requested WAL segment {} has already been removed", layout.file_name(release_.timeline, layout.number_of(command.start))),
                        fmt::format("this replica's log begins at {}: give the standby the earlier WAL through restore_command, or make it anew with slipstream init-standby", to_string(Lsn{server_.log_begin_.load()})));
  }
  // A start beyond what is fed is not refused: a standby may be ahead of a log that was set back by a crash, and the bytes will come.
  out_.copy_both();
  state_ = State::kStreaming;
  sent_end_ = command.start;
  status_ = {};
  keepalive_at_ = Clock::now();
  standby_ = application_name_ != "pg_receivewal" && application_name_ != "pg_basebackup";
  if (standby_) server_.push(node::StandbyConnected{command.start, application_name_});
}

void FeedServer::Client::on_copy_data(std::span<const std::byte> message) {
  if (const auto status = decode_standby_status(message)) {
    if (status->apply > status_.apply || status->flush > status_.flush) asks_ = 0;
    status_ = *status;
    if (standby_) server_.push(node::StandbyReply{status->write, status->flush, status->apply});
    if (status->reply_requested) out_.keepalive(std::max(release_.primary_flushed_end, sent_end_), false);
  } else if (!decode_feedback(message)) {
    fatal("08P01", "a message that is no part of physical streaming");
  }
}

void FeedServer::Client::on_turn(const node::Release& release, Clock::time_point now) {
  release_ = release;
  if (streaming()) {
    stream(release);
    if (now >= keepalive_at_) {
      // The standby tells its replay position on its own only now and then: it is asked while it lags.
      const bool behind = standby_ && status_.apply < std::min(release.fed_end, sent_end_);
      out_.keepalive(std::max(release.primary_flushed_end, sent_end_), behind || asks_ == 0);
      asks_ = std::min(asks_ + 1, 10);
      keepalive_at_ = now + (behind ? milliseconds(asks_ < 5 ? 5 : 50) : kIdleKeepalive);
    }
  }
  flush();
  if (state_ == State::kClosing && !wants_write()) end();
}

int FeedServer::Client::wait_ms(Clock::time_point now) const {
  if (!streaming()) return 1000;
  const auto left = std::chrono::duration_cast<milliseconds>(keepalive_at_ - now).count();
  return static_cast<int>(std::clamp<std::int64_t>(left + 1, 0, 1000));
}

void FeedServer::Client::stream(const node::Release& release) {
  std::byte buffer[kWalBytesMax];
  bool sent = false;
  while (sent_end_ < release.fed_end && out_.bytes().size() - out_at_ < kOutBytesMax) {
    Lsn end = std::min(release.fed_end, sent_end_ + ByteCount{kWalBytesMax});
    end = std::min(end, Lsn{align_down(sent_end_, options_segment()).value + options_segment()});
    if (end < release.fed_end) end = align_down(end, wal::kPageBytes);
    const auto wanted = std::span(buffer).first((end - sent_end_).value);
    if (read_wal(sent_end_, wanted, release.timeline) != wanted.size()) {
      const wal::SegmentLayout layout(server_.options_.segment_size);
      fatal("58P01", fmt::format("requested WAL segment {} has already been removed", layout.file_name(release.timeline, layout.number_of(sent_end_))));
      break;
    }
    out_.xlog_data(sent_end_, std::max(release.primary_flushed_end, end), wanted);
    sent_end_ = end;
    sent = true;
  }
  if (sent) {
    asks_ = 0;
    keepalive_at_ = std::min(keepalive_at_, Clock::now() + milliseconds(2));
  }
}

std::uint64_t FeedServer::Client::options_segment() const { return server_.options_.segment_size.value; }

std::size_t FeedServer::Client::read_wal(Lsn at, std::span<std::byte> into, TimelineId timeline) {
  const wal::SegmentLayout layout(server_.options_.segment_size);
  const std::uint64_t number = layout.number_of(at);
  if (segment_fd_ < 0 || segment_number_ != number) {
    if (segment_fd_ >= 0) close(segment_fd_);
    segment_fd_ = -1;
    // The newest timeline that has the segment: a fork's first one starts with its ancestor's bytes.
    for (std::uint32_t each = timeline.value; each >= 1 && segment_fd_ < 0; --each)
      segment_fd_ = open((server_.options_.wal_directory / layout.file_name(TimelineId{each}, number)).c_str(), O_RDONLY | O_CLOEXEC);
    segment_number_ = number;
  }
  if (segment_fd_ < 0) return 0;
  const ssize_t got = pread(segment_fd_, into.data(), into.size(), static_cast<off_t>(layout.offset_of(at)));
  return got > 0 ? static_cast<std::size_t>(got) : 0;
}

void FeedServer::Client::flush() {
  auto& bytes = out_.bytes();
  while (out_at_ < bytes.size()) {
    const ssize_t put = send(fd_, bytes.data() + out_at_, bytes.size() - out_at_, MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (put <= 0) return end();
    out_at_ += static_cast<std::size_t>(put);
  }
  if (out_at_ == bytes.size()) bytes.clear(), out_at_ = 0;
  else if (out_at_ > kOutBytesMax) bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(out_at_)), out_at_ = 0;
}

}  // namespace slipstream::postgres
