#include "postgres/upstream_stream.h"

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/digest.h"
#include "postgres/forced_flush.h"
#include "wal/segment.h"

namespace slipstream::postgres {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kChunkBytesMax = 128 * 1024;
constexpr std::uint64_t kChunkBoundary = 1024 * 1024;
// PostgreSQL sends 128 KiB at most (MAX_SEND_SIZE).
constexpr std::size_t kPayloadBytesMax = 1024 * 1024;
constexpr std::size_t kEventsOfAMessage = kPayloadBytesMax / kChunkBytesMax + 4;
constexpr std::size_t kMessagesAtOnce = 16;  // The data thread has other things to do, too.
constexpr milliseconds kRepeatReport{100};
constexpr milliseconds kFeedbackInterval{1000};
constexpr milliseconds kAskedAtOnce{100};  // A request so soon after an answer is no timer's.
constexpr int kStoppingRequests = 5;  // So many of them in a row, at one position: a walsender that waits to leave.
constexpr milliseconds kStoppingGrace{1000};
constexpr milliseconds kSilenceMax{60'000};  // As PostgreSQL's wal_receiver_timeout: asked after half of it.
constexpr Duration kAnswerMax = seconds(10);

std::uint64_t number(const std::string& digits) { return std::strtoull(digits.c_str(), nullptr, 10); }

}  // namespace

// ---- From a connection to a stream

std::expected<void, Error> PostgresUpstream::Stream::open() {
  auto made = Connection::open(owner_.options_.conninfo,
                               {{"replication", "true"}, {"application_name", owner_.options_.application_name}},
                               {owner_.stopped_.fd(), kAnswerMax});
  if (!made) return std::unexpected(made.error());
  connection_.emplace(std::move(*made));
  where_ = "replication connection, " + connection_->where();
  if (auto known = identify(); !known) return known;
  if (auto primary = refuse_standby(); !primary) return primary;
  if (owner_.options_.stale_end)
    if (auto flushed = flush_everything(); !flushed) return flushed;
  return start();
}

std::expected<std::vector<std::string>, Error> PostgresUpstream::Stream::row(const std::string& command,
                                                                             std::size_t columns) {
  const auto result = connection_->execute(command);
  if (!result) return std::unexpected(result.error());
  if (!result->ok() || result->rows() != 1 || result->columns() < columns)
    return std::unexpected(lost(command + ": " + connection_->message()));
  std::vector<std::string> out;
  for (std::size_t i = 0; i < columns; ++i) out.push_back(result->cell(0, i).value_or(""));
  return out;
}

std::expected<void, Error> PostgresUpstream::Stream::identify() {
  const auto system = row("IDENTIFY_SYSTEM", 3);
  if (!system) return std::unexpected(system.error());
  facts_.system.value = number((*system)[0]);
  facts_.timeline.value = static_cast<std::uint32_t>(number((*system)[1]));
  const auto flushed = parse_lsn((*system)[2]);
  if (!flushed) return std::unexpected(lost("IDENTIFY_SYSTEM gave no position"));
  SystemId& ours = owner_.options_.system;
  if (ours.value != 0 && ours != facts_.system)
    return std::unexpected(Error{ExitCode::kDatabase,
                                 fmt::format("this PostgreSQL has system identifier {}, but this daemon serves {}",
                                             facts_.system.value, ours.value),
                                 where_, "point conninfo at the right server, or use another state_directory"});
  ours = facts_.system;
  facts_.flushed_end = *flushed;
  facts_.server_version_num = static_cast<std::uint32_t>(PQserverVersion(connection_->get()));
  const auto size = row("SHOW wal_segment_size", 1);
  if (!size) return std::unexpected(size.error());
  const std::uint64_t unit = (*size)[0].ends_with("GB") ? 1u << 30 : (*size)[0].ends_with("MB") ? 1u << 20 : 1;
  facts_.segment_size.value = number((*size)[0]) * unit;
  if (!wal::SegmentLayout::valid_size(facts_.segment_size))
    return std::unexpected(lost("wal_segment_size \"" + (*size)[0] + "\" is not understood"));
  return {};
}

// A standby streams what it received, and would wait for nobody: what it is told as confirmed holds nothing.
std::expected<void, Error> PostgresUpstream::Stream::refuse_standby() {
  bool standby = false;
  if (const char* told = PQparameterStatus(connection_->get(), "in_hot_standby")) {
    standby = std::strcmp(told, "on") == 0;
  } else {
    // PostgreSQL 13 does not tell; there, recovery shows in transactions that are read-only though nobody wished it.
    const auto now = row("SHOW transaction_read_only", 1), wished = row("SHOW default_transaction_read_only", 1);
    if (!now) return std::unexpected(now.error());
    if (!wished) return std::unexpected(wished.error());
    standby = now->front() == "on" && wished->front() == "off";
  }
  if (standby)
    return std::unexpected(Error{ExitCode::kDatabase, "this server is in recovery: it is a standby, not a primary",
                                 where_, "point conninfo at the primary"});
  return {};
}

// Why this holds whatever happens to the server meanwhile: this connection's walsender was there before the flush and
// answers after it, so both are of one life of PostgreSQL, and the flush was seen to be the same server's. Whatever was
// shipped before was inserted before, in this life: then it lies below this flush; or in an earlier one: then what of
// it lies beyond flushed_end, or differs from the files, was never flushed, so nobody was told that it is committed. A
// server that is started again after this ends the connection.
std::expected<void, Error> PostgresUpstream::Stream::flush_everything() {
  const auto flushed = force_flush(owner_.options_.conninfo, owner_.options_.application_name + "_flush",
                                   PQbackendPID(connection_->get()), {owner_.stopped_.fd(), kAnswerMax});
  owner_.set_problem(owner_.flush_problem_, flushed ? std::nullopt : std::optional(flushed.error()));
  facts_.all_flushed = flushed.has_value();
  if (!flushed) return {};
  const auto now = row("IDENTIFY_SYSTEM", 3);
  if (!now) return std::unexpected(now.error());
  const auto position = parse_lsn((*now)[2]);
  if (!position || *position < *flushed)
    return std::unexpected(lost(fmt::format(
        "IDENTIFY_SYSTEM gave {} after {} had been flushed: is this another server?", (*now)[2], to_string(*flushed))));
  facts_.flushed_end = *position;
  return {};
}

// From the page of the flushed position on: starting lower would keep the walsender in catch-up for longer.
std::expected<void, Error> PostgresUpstream::Stream::start() {
  if (facts_.timeline.value > 1) {
    const auto history = row(fmt::format("TIMELINE_HISTORY {}", facts_.timeline.value), 2);
    if (!history) return std::unexpected(history.error());
    facts_.history = (*history)[1];
  }
  if (owner_.options_.stale_end) facts_.stale_end = owner_.options_.stale_end(facts_.flushed_end, facts_.timeline);
  facts_.stream_begin = stream_end_ = align_down(facts_.flushed_end, wal::kPageBytes);
  const auto result = connection_->execute(
      fmt::format("START_REPLICATION PHYSICAL {} TIMELINE {}", to_string(facts_.stream_begin), facts_.timeline.value));
  if (!result) return std::unexpected(result.error());
  if (!result->streaming()) return std::unexpected(lost(connection_->message()));
  heard_at_ = Clock::now();
  {
    // Nothing handed over for an earlier connection is sent on this one.
    const std::lock_guard lock(owner_.mutex_);
    owner_.wanted_report_ = {};
    ++owner_.connections_;
  }
  owner_.server_stops_ = false;  // It takes connections.
  owner_.push(facts_, owner_.stream_events_);
  return {};
}

// ---- The stream

int PostgresUpstream::Stream::socket() const { return PQsocket(connection_->get()); }

Error PostgresUpstream::Stream::run() {
  bool more = false;
  while (!owner_.stop_) {
    if (auto problem = drain(SIZE_MAX, more)) return *problem;
    if (auto problem = speak()) return *problem;
    if (auto problem = wait()) return *problem;
  }
  return {ExitCode::kDatabase, "stopped", where_, ""};
}

// A thread of its own waits for room instead.
bool PostgresUpstream::Stream::full() const {
  return owner_.options_.on_data_thread && owner_.stream_events_.room() < kEventsOfAMessage;
}

std::optional<Error> PostgresUpstream::Stream::listen(bool& more) {
  if (PQconsumeInput(connection_->get()) == 0) return lost(connection_->message());
  return drain(kMessagesAtOnce, more);
}

std::optional<Error> PostgresUpstream::Stream::speak() {
  if (owner_.reconnect_.exchange(false))
    return Error{ExitCode::kDatabase, "connecting anew after a difference between the stream and the files", where_,
                 ""};
  if (auto problem = send_report()) return problem;
  if (auto problem = send_feedback()) return problem;
  if (auto problem = look_at_stop()) return problem;
  return flush();
}

std::optional<Error> PostgresUpstream::Stream::drain(std::size_t messages_max, bool& more) {
  more = false;
  for (std::size_t i = 0; !owner_.stop_; ++i) {
    more = i == messages_max || full();
    if (more) return std::nullopt;
    char* buffer = nullptr;
    const int bytes = PQgetCopyData(connection_->get(), &buffer, 1);
    if (bytes == 0) return std::nullopt;
    if (bytes < 0) {
      PQclear(bytes == -1 ? PQgetResult(connection_->get()) : nullptr);
      const std::string message = connection_->message();
      return lost(message.empty() ? "the walsender ended the stream" : message);
    }
    auto problem = on_message(std::as_bytes(std::span(buffer, static_cast<std::size_t>(bytes))));
    PQfreemem(buffer);
    if (problem) return problem;
  }
  return std::nullopt;
}

std::optional<Error> PostgresUpstream::Stream::on_message(std::span<const std::byte> message) {
  heard_at_ = Clock::now();
  if (const auto data = decode_xlog_data(message)) {
    if (data->start != stream_end_)
      return lost(fmt::format("the stream jumped from {} to {}", to_string(stream_end_), to_string(data->start)));
    if (data->payload.size() > kPayloadBytesMax)
      return lost(fmt::format("a message with {} bytes of WAL", data->payload.size()));
    on_wal(*data);
  } else if (const auto keepalive = decode_keepalive(message)) {
    on_keepalive(*keepalive);
  } else {
    return lost("a message that is no part of physical streaming");
  }
  return std::nullopt;
}

void PostgresUpstream::Stream::on_wal(const XLogData& data) {
  auto payload = data.payload;
  while (!payload.empty()) {
    const std::uint64_t to_boundary = kChunkBoundary - stream_end_.value % kChunkBoundary;
    const auto bytes =
        static_cast<std::size_t>(std::min({static_cast<std::uint64_t>(payload.size()), to_boundary, kChunkBytesMax}));
    const LsnRange range{stream_end_, stream_end_ + ByteCount{bytes}};
    owner_.push(node::UpstreamChunk{range, xxh3_64(payload.first(bytes))}, owner_.stream_events_);
    payload = payload.subspan(bytes);
    stream_end_ = range.end;
  }
  if (data.wal_end > stream_end_) owner_.push(node::UpstreamFlushed{data.wal_end}, owner_.stream_events_);
}

void PostgresUpstream::Stream::on_keepalive(const Keepalive& keepalive) {
  if (!keepalive.reply_requested) return;
  reply_wanted_ = true;
  const bool again = keepalive.wal_end == requests_at_ && heard_at_ - answered_at_ < kAskedAtOnce;
  requests_ = again ? requests_ + 1 : 1;
  requests_at_ = keepalive.wal_end;
  if (requests_ >= kStoppingRequests) stopping_ = true;
}

std::optional<Error> PostgresUpstream::Stream::send_report() {
  {
    const std::lock_guard lock(owner_.mutex_);
    looked_at_ = owner_.wanted_report_;
  }
  const auto now = Clock::now();
  const bool due = now - sent_at_ >= kRepeatReport;
  // A request is answered at once, so that the bursts of a walsender that waits to stop show; then no faster than is
  // repeated anyhow.
  const bool answer = reply_wanted_ && !stopping();
  if (looked_at_ == sent_ && !answer && !due) return std::nullopt;
  const bool ask = now - heard_at_ > kSilenceMax / 2;
  const auto message = encode(StandbyStatus{looked_at_.write, looked_at_.flush, looked_at_.apply, now_us(), ask});
  const int put = PQputCopyData(connection_->get(), reinterpret_cast<const char*>(message.data()),
                                static_cast<int>(message.size()));
  if (put < 0) return lost(connection_->message());
  if (put == 0) return std::nullopt;  // No room now.
  if (looked_at_ != sent_) moved_at_ = now;
  sent_ = looked_at_;
  sent_at_ = now;
  if (std::exchange(reply_wanted_, false)) answered_at_ = now;
  return std::nullopt;
}

// The walsender holds vacuum back as long as this connection lives: it uses no slot, which would keep that beyond.
std::optional<Error> PostgresUpstream::Stream::send_feedback() {
  const auto now = Clock::now();
  if (now - feedback_sent_at_ < kFeedbackInterval) return std::nullopt;
  node::StandbyFeedback wanted;
  {
    const std::lock_guard lock(owner_.mutex_);
    wanted = owner_.wanted_feedback_;
  }
  if (wanted == feedback_sent_) return std::nullopt;
  const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
  const auto message = encode(HotStandbyFeedback{now_us(), low(wanted.xmin), low(wanted.xmin >> 32),
                                                 low(wanted.catalog_xmin), low(wanted.catalog_xmin >> 32)});
  const int put = PQputCopyData(connection_->get(), reinterpret_cast<const char*>(message.data()),
                                static_cast<int>(message.size()));
  if (put < 0) return lost(connection_->message());
  if (put == 0) return std::nullopt;  // No room now.
  feedback_sent_ = wanted;
  feedback_sent_at_ = now;
  return std::nullopt;
}

// PostgreSQL's walsender leaves once everything was confirmed. A quorum that does not come is not waited for, and never
// replaced by a report (R1).
std::optional<Error> PostgresUpstream::Stream::look_at_stop() {
  if (!stopping()) {
    stop_seen_.reset();
    return std::nullopt;
  }
  const auto now = Clock::now();
  if (!stop_seen_ && full()) return std::nullopt;  // Told later.
  if (!stop_seen_) {
    stop_seen_ = now;
    owner_.push(node::UpstreamStopping{}, owner_.stream_events_);
  }
  if (now - std::max(*stop_seen_, moved_at_) < kStoppingGrace) return std::nullopt;
  return Error{ExitCode::kDatabase, "PostgreSQL is stopping", where_, "it will be tried again"};
}

std::optional<Error> PostgresUpstream::Stream::flush() {
  const int unsent = PQflush(connection_->get());
  if (unsent < 0) return lost(connection_->message());
  unsent_ = unsent > 0;
  if (Clock::now() - heard_at_ > kSilenceMax) return lost("the server has been silent for a minute");
  return std::nullopt;
}

std::optional<Error> PostgresUpstream::Stream::wait() {
  bool news = false;
  {
    const std::lock_guard lock(owner_.mutex_);
    news = owner_.wanted_report_ != looked_at_;
    owner_.replication_sleeps_ = !news;
  }
  pollfd waits[3] = {{socket(), static_cast<short>(POLLIN | (unsent_ ? POLLOUT : 0)), 0},
                     {owner_.wake_.fd(), POLLIN, 0},
                     {owner_.stopped_.fd(), POLLIN, 0}};
  const int ready = ::poll(waits, 3, news ? 0 : static_cast<int>(kRepeatReport.count()));
  const int problem = errno;
  {
    const std::lock_guard lock(owner_.mutex_);
    owner_.replication_sleeps_ = false;
  }
  if (ready < 0 && problem != EINTR) return lost(std::strerror(problem));
  if (ready <= 0) return std::nullopt;
  if (waits[1].revents != 0) owner_.wake_.clear();
  if ((waits[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && PQconsumeInput(connection_->get()) == 0)
    return lost(connection_->message());
  return std::nullopt;
}

}  // namespace slipstream::postgres
