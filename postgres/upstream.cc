#include "postgres/upstream.h"

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cerrno>
#include <cstring>
#include <expected>

#include "base/digest.h"
#include "postgres/sql_session.h"
#include "postgres/wire.h"
#include "wal/segment.h"

namespace slipstream::postgres {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kChunkBytesMax = 128 * 1024;
constexpr std::uint64_t kChunkBoundary = 1024 * 1024;
constexpr milliseconds kRepeatReport{100};
constexpr milliseconds kStoppingWindow{100};
constexpr int kStoppingRequests = 5;  // Requests at one position within the window: a walsender that waits to leave.
constexpr milliseconds kStoppingGrace{3000};

}  // namespace

// One replication connection, from its start to its loss.
class PostgresUpstream::Stream {
 public:
  explicit Stream(PostgresUpstream& owner) : owner_(owner) {}
  ~Stream() { PQfinish(connection_); }

  std::expected<void, Error> open();
  Error run();  // Until it is lost; says why.

 private:
  std::expected<std::vector<std::string>, Error> row(const std::string& command, int columns);
  std::expected<void, Error> start();
  std::optional<Error> drain();
  std::optional<Error> on_message(std::span<const std::byte> message);
  void on_wal(const XLogData& data);
  void on_keepalive(const Keepalive& keepalive);
  std::optional<Error> send_report();
  Error lost(const std::string& what) { return connection_error(what, where_); }

  PostgresUpstream& owner_;
  PGconn* connection_ = nullptr;
  std::string where_ = "replication connection";
  node::UpstreamConnected facts_;
  Lsn stream_end_;
  node::Report sent_{};
  Clock::time_point sent_at_{};
  bool reply_wanted_ = false;
  int requests_ = 0;
  Lsn requests_at_{};
  Clock::time_point requests_since_{};
  bool stopping_ = false;
  Clock::time_point stopping_since_{};
};

std::expected<std::vector<std::string>, Error> PostgresUpstream::Stream::row(const std::string& command, int columns) {
  PGresult* result = PQexec(connection_, command.c_str());
  std::vector<std::string> out;
  if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && PQnfields(result) >= columns)
    for (int i = 0; i < columns; ++i) out.emplace_back(PQgetvalue(result, 0, i), static_cast<std::size_t>(PQgetlength(result, 0, i)));
  PQclear(result);
  if (out.empty()) return std::unexpected(lost(command + ": " + PQerrorMessage(connection_)));
  return out;
}

std::expected<void, Error> PostgresUpstream::Stream::open() {
  const char* keys[] = {"dbname", "replication", "application_name", "connect_timeout", nullptr};
  const char* values[] = {owner_.options_.conninfo.c_str(), "true", owner_.options_.application_name.c_str(), "5", nullptr};
  connection_ = PQconnectdbParams(keys, values, 1);
  if (PQstatus(connection_) != CONNECTION_OK) return std::unexpected(lost(PQerrorMessage(connection_)));

  const auto system = row("IDENTIFY_SYSTEM", 3);
  if (!system) return std::unexpected(system.error());
  facts_.system.value = std::strtoull((*system)[0].c_str(), nullptr, 10);
  facts_.timeline.value = static_cast<std::uint32_t>(std::strtoul((*system)[1].c_str(), nullptr, 10));
  const auto flushed = parse_lsn((*system)[2]);
  if (!flushed) return std::unexpected(lost("IDENTIFY_SYSTEM gave no position"));
  if (owner_.options_.system.value != 0 && owner_.options_.system != facts_.system)
    return std::unexpected(Error{ExitCode::kDatabase, fmt::format("this PostgreSQL has system identifier {}, but this daemon serves {}", facts_.system.value, owner_.options_.system.value), where_,
                                 "point conninfo at the right server, or use another state_directory"});
  owner_.options_.system = facts_.system;
  facts_.flushed_end = *flushed;
  facts_.server_version_num = static_cast<std::uint32_t>(PQserverVersion(connection_));
  const auto size = row("SHOW wal_segment_size", 1);
  if (!size) return std::unexpected(size.error());
  const std::uint64_t unit = (*size)[0].ends_with("GB") ? 1u << 30 : (*size)[0].ends_with("MB") ? 1u << 20 : 1;
  facts_.segment_size.value = std::strtoull((*size)[0].c_str(), nullptr, 10) * unit;
  if (!wal::SegmentLayout::valid_size(facts_.segment_size)) return std::unexpected(lost("wal_segment_size \"" + (*size)[0] + "\" is not understood"));
  if (facts_.timeline.value > 1) {
    const auto history = row(fmt::format("TIMELINE_HISTORY {}", facts_.timeline.value), 2);
    if (!history) return std::unexpected(history.error());
    facts_.history = (*history)[1];
  }
  return start();
}

// From the page of the flushed position on: starting lower would keep the walsender in catch-up for longer.
std::expected<void, Error> PostgresUpstream::Stream::start() {
  facts_.stream_begin = stream_end_ = align_down(facts_.flushed_end, wal::kPageBytes);
  const std::string command = fmt::format("START_REPLICATION PHYSICAL {} TIMELINE {}", to_string(facts_.stream_begin), facts_.timeline.value);
  PGresult* result = PQexec(connection_, command.c_str());
  const bool streaming = PQresultStatus(result) == PGRES_COPY_BOTH;
  PQclear(result);
  if (!streaming) return std::unexpected(lost(PQerrorMessage(connection_)));
  {
    // Nothing handed over for an earlier connection is sent on this one.
    const std::lock_guard lock(owner_.mutex_);
    owner_.wanted_report_ = {};
    ++owner_.connections_;
  }
  owner_.push(facts_, owner_.stream_events_);
  return {};
}

Error PostgresUpstream::Stream::run() {
  while (!owner_.stop_) {
    if (owner_.reconnect_.exchange(false)) return {ExitCode::kDatabase, "connecting anew after a difference between the stream and the files", where_, ""};
    if (auto problem = drain()) return *problem;
    if (auto problem = send_report()) return *problem;
    if (stopping_ && Clock::now() - stopping_since_ > kStoppingGrace) return {ExitCode::kDatabase, "PostgreSQL is stopping", where_, "it will be tried again"};
    pollfd waits[2] = {{PQsocket(connection_), POLLIN, 0}, {owner_.event_, POLLIN, 0}};
    if (poll(waits, 2, static_cast<int>(kRepeatReport.count())) < 0 && errno != EINTR) return lost(std::strerror(errno));
    if (waits[1].revents & POLLIN) {
      std::uint64_t count = 0;
      (void)!read(owner_.event_, &count, sizeof count);
    }
    if ((waits[0].revents & (POLLIN | POLLHUP | POLLERR)) && PQconsumeInput(connection_) == 0) return lost(PQerrorMessage(connection_));
  }
  return {ExitCode::kDatabase, "stopped", where_, ""};
}

std::optional<Error> PostgresUpstream::Stream::drain() {
  while (true) {
    char* buffer = nullptr;
    const int bytes = PQgetCopyData(connection_, &buffer, 1);
    if (bytes == 0) return std::nullopt;
    if (bytes < 0) {
      PGresult* result = bytes == -1 ? PQgetResult(connection_) : nullptr;
      PQclear(result);
      const std::string message = PQerrorMessage(connection_);
      return lost(message.empty() ? "the walsender ended the stream" : message);
    }
    auto problem = on_message(std::as_bytes(std::span(buffer, static_cast<std::size_t>(bytes))));
    PQfreemem(buffer);
    if (problem) return problem;
  }
}

std::optional<Error> PostgresUpstream::Stream::on_message(std::span<const std::byte> message) {
  if (const auto data = decode_xlog_data(message)) {
    if (data->start != stream_end_) return lost(fmt::format("the stream jumped from {} to {}", to_string(stream_end_), to_string(data->start)));
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
    const auto bytes = static_cast<std::size_t>(std::min({static_cast<std::uint64_t>(payload.size()), to_boundary, kChunkBytesMax}));
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
  const auto now = Clock::now();
  if (keepalive.wal_end != requests_at_ || now - requests_since_ > kStoppingWindow) {
    requests_at_ = keepalive.wal_end;
    requests_since_ = now;
    requests_ = 0;
  }
  if (++requests_ > kStoppingRequests && !stopping_) {
    stopping_ = true;
    stopping_since_ = now;
    owner_.push(node::UpstreamStopping{}, owner_.stream_events_);
  }
}

std::optional<Error> PostgresUpstream::Stream::send_report() {
  node::Report report;
  {
    const std::lock_guard lock(owner_.mutex_);
    report = owner_.wanted_report_;
  }
  const auto now = Clock::now();
  // A first answer to a request goes out at once; at an unmoved position they are spaced, or a stopping walsender and we would spin.
  const bool answer = reply_wanted_ && (requests_ <= 2 || now - sent_at_ >= kRepeatReport);
  if (report == sent_ && !answer && now - sent_at_ < kRepeatReport) return std::nullopt;
  StandbyStatus status{report.write, report.flush, report.apply, now_us(), false};
  const auto message = encode(status);
  if (PQputCopyData(connection_, reinterpret_cast<const char*>(message.data()), static_cast<int>(message.size())) != 1 || PQflush(connection_) < 0) return lost(PQerrorMessage(connection_));
  sent_ = report;
  sent_at_ = now;
  reply_wanted_ = false;
  return std::nullopt;
}

PostgresUpstream::PostgresUpstream(UpstreamOptions options) : options_(std::move(options)), event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  replication_ = std::thread([this] { replication_thread(); });
  sql_ = std::thread([this] { sql_thread(); });
}

PostgresUpstream::~PostgresUpstream() {
  stop_ = true;
  stopped_.notify_all();
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
  replication_.join();
  sql_.join();
  close(event_);
}

bool PostgresUpstream::sleep_for(int ms) {
  std::unique_lock lock(stop_mutex_);
  stopped_.wait_for(lock, milliseconds(ms), [&] { return stop_.load(); });
  return !stop_;
}

void PostgresUpstream::set_problem(std::optional<Error> problem) {
  const std::lock_guard lock(problem_mutex_);
  problem_ = std::move(problem);
}

std::optional<Error> PostgresUpstream::problem() const {
  const std::lock_guard lock(problem_mutex_);
  return problem_;
}

// Events are never dropped: a full ring makes this thread, and so the walsender, wait.
void PostgresUpstream::push(node::UpstreamEvent event, SpscRing<node::UpstreamEvent>& ring) {
  while (!ring.push(std::move(event))) {
    if (stop_) return;
    options_.wake();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  options_.wake();
}

void PostgresUpstream::replication_thread() {
  int backoff_ms = 100;
  while (!stop_) {
    Stream stream(*this);
    const auto opened = stream.open();
    if (opened) {
      set_problem(std::nullopt);
      backoff_ms = 100;
      const Error why = stream.run();
      push(node::UpstreamLost{}, stream_events_);
      set_problem(why);
    } else {
      set_problem(opened.error());
    }
    if (!sleep_for(backoff_ms)) return;
    backoff_ms = std::min(2 * backoff_ms, 2000);
  }
}

void PostgresUpstream::sql_thread() {
  std::optional<SqlSession> session;
  std::optional<std::string> names;
  std::uint64_t advanced = 0, advanced_on = 0;
  auto advanced_at = Clock::now();
  while (sleep_for(200)) {
    if (!session) {
      auto connected = SqlSession::connect(options_.conninfo, options_.application_name + "_sql");
      if (!connected) continue;
      session = std::move(*connected);
      names.reset();
      (void)ensure_slot(*session, options_.slot);
    }
    const auto value = session->value("SELECT current_setting('synchronous_standby_names')");
    if (!value) {
      if (session->shutting_down()) push(node::UpstreamStopping{}, sql_events_);
      session.reset();
      continue;
    }
    if (names != *value) {
      names = *value;
      push(node::UpstreamSyncNames{names_always_contain(*value, options_.application_name), *value}, sql_events_);
    }
    // After a crash of PostgreSQL the slot falls back to its last checkpoint: advanced again on each new connection.
    const std::uint64_t wanted = slot_end_, connection = connections_;
    if (wanted == 0 || (wanted == advanced && connection == advanced_on) || Clock::now() - advanced_at < std::chrono::seconds(1)) continue;
    advanced_at = Clock::now();
    const auto moved = session->query(fmt::format("SELECT pg_catalog.pg_replication_slot_advance('{}', least('{}'::pg_lsn, pg_catalog.pg_current_wal_flush_lsn()))", options_.slot, to_string(Lsn{wanted})));
    if (moved) advanced = wanted, advanced_on = connection;
  }
}

bool PostgresUpstream::next_event(node::UpstreamEvent& event) {
  if (stream_events_.pop(event)) {
    // From here on report() speaks for this connection.
    if (std::holds_alternative<node::UpstreamConnected>(event)) ++connected_seen_, last_reported_ = {};
    return true;
  }
  return sql_events_.pop(event);
}

void PostgresUpstream::report(const node::Report& report) {
  if (report == last_reported_) return;
  last_reported_ = report;
  {
    const std::lock_guard lock(mutex_);
    if (connected_seen_ != connections_) return;  // Made for a connection that is gone.
    wanted_report_ = report;
  }
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

void PostgresUpstream::advance_slot(Lsn end) { slot_end_.store(end.value, std::memory_order_relaxed); }

void PostgresUpstream::reconnect() {
  reconnect_ = true;
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

}  // namespace slipstream::postgres
