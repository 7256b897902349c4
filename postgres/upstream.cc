#include "postgres/upstream.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "postgres/sql_session.h"
#include "postgres/sync_names.h"
#include "postgres/upstream_stream.h"

namespace slipstream::postgres {
namespace {

constexpr Duration kPollNames = milliseconds(200);
constexpr std::chrono::seconds kRepeatNames{1};
constexpr Duration kSqlAnswerMax = seconds(30);
constexpr std::chrono::seconds kSlotInterval{1};
// Of the data thread: how long it does not look whether something came while nothing tells it, and what is due by time.
constexpr std::chrono::microseconds kLookAgain{50};
constexpr std::chrono::milliseconds kSpeakAgain{10};

Error in_recovery() {
  return {ExitCode::kDatabase, "this server is in recovery: it is a standby, not a primary", "SQL session",
          "point conninfo at the primary"};
}

}  // namespace

PostgresUpstream::PostgresUpstream(UpstreamOptions options) : options_(std::move(options)) {
  replication_ = std::thread([this] { replication_thread(); });
  sql_ = std::thread([this] { sql_thread(); });
}

PostgresUpstream::~PostgresUpstream() { stop(); }

void PostgresUpstream::stop() {
  stop_ = true;
  stopped_.signal();
  if (replication_.joinable()) replication_.join();
  if (sql_.joinable()) sql_.join();
}

bool PostgresUpstream::sleep_for(int ms) {
  pollfd stopped{stopped_.fd(), POLLIN, 0};
  (void)::poll(&stopped, 1, ms);
  return !stop_;
}

void PostgresUpstream::set_problem(std::optional<Error>& which, std::optional<Error> problem) {
  const std::lock_guard lock(problem_mutex_);
  which = std::move(problem);
}

std::optional<Error> PostgresUpstream::problem() const {
  const std::lock_guard lock(problem_mutex_);
  return stream_problem_ ? stream_problem_ : sql_problem_ ? sql_problem_ : flush_problem_;
}

// Events are never dropped: a full ring makes this thread, and so the walsender, wait.
void PostgresUpstream::push(node::UpstreamEvent event, SpscRing<node::UpstreamEvent>& ring) {
  while (!ring.push(std::move(event))) {
    if (stop_) return;
    options_.wake();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  if (!handed_over_.load(std::memory_order_relaxed) || &ring == &sql_events_) options_.wake();
}

void PostgresUpstream::replication_thread() {
  pthread_setname_np(pthread_self(), "replication");
  int backoff_ms = 100;
  do {
    backoff_ms = stream() ? 100 : std::min(2 * backoff_ms, 2000);
  } while (sleep_for(backoff_ms));
}

// One connection, gone when this returns: a walsender is scarce. Whether there was a stream.
bool PostgresUpstream::stream() {
  if (options_.stale_end && !wait_until_loss_is_handled()) return false;
  Stream stream(*this);
  const auto opened = stream.open();
  if (!opened) {
    set_problem(stream_problem_, opened.error());
    return false;
  }
  set_problem(stream_problem_, std::nullopt);
  const Error why = options_.on_data_thread ? hand_over(stream) : stream.run();
  ++losses_;
  push(node::UpstreamLost{}, stream_events_);
  set_problem(stream_problem_, why);
  return true;
}

// To the data thread, until that gives it back: why. It is destroyed here, where closing a connection may take its
// time.
Error PostgresUpstream::hand_over(Stream& stream) {
  handed_over_.store(&stream, std::memory_order_release);
  options_.wake();
  pollfd waits[2] = {{wake_.fd(), POLLIN, 0}, {stopped_.fd(), POLLIN, 0}};
  while (!stop_ && handed_over_.load(std::memory_order_acquire)) {
    (void)::poll(waits, 2, -1);
    if (waits[0].revents != 0) wake_.clear();
  }
  if (handed_over_.exchange(nullptr, std::memory_order_acquire))
    return {ExitCode::kDatabase, "stopped", "replication connection", ""};
  return *std::exchange(lost_, std::nullopt);
}

// Until then bytes may be shipped that were read ahead of their flush, also ones that a server wrote that was started
// again meanwhile. False: stopped.
bool PostgresUpstream::wait_until_loss_is_handled() {
  while (losses_handled_ != losses_)
    if (!sleep_for(1)) return false;
  return !stop_;
}

// ---- The SQL session

void PostgresUpstream::sql_thread() {
  pthread_setname_np(pthread_self(), "sql");
  int backoff_ms = 200;
  do {
    auto session =
        SqlSession::connect(options_.conninfo, options_.application_name + "_sql", {stopped_.fd(), kSqlAnswerMax});
    if (!session) {
      set_problem(sql_problem_, session.error());
      backoff_ms = std::min(2 * backoff_ms, 2000);
      continue;
    }
    server_stops_ = false;
    names_.reset();
    if (serve_sql(*session)) backoff_ms = 200;
    if (session->shutting_down()) {
      server_stops_ = true;
      wake_.signal();
    }
  } while (sleep_for(backoff_ms));
}

// Until the session is lost. Whether it was of use.
bool PostgresUpstream::serve_sql(SqlSession& session) {
  const auto recovering = session.value("SELECT pg_catalog.pg_is_in_recovery()");
  if (!recovering || *recovering != "f") {
    set_problem(sql_problem_, recovering ? in_recovery() : recovering.error());
    return false;
  }
  auto slot_looked_at = std::chrono::steady_clock::time_point{};
  while (poll_names(session)) {
    if (const auto now = std::chrono::steady_clock::now(); now - slot_looked_at >= kSlotInterval) {
      slot_looked_at = now;
      const auto slot = ensure_slot(session, options_.slot);
      set_problem(sql_problem_, slot ? std::nullopt : std::optional(slot.error()));
      move_slot(session);
      drop_slots(session);
    }
    // What it says unasked is its end: looked at without delay.
    if (session.wait_for_input(kPollNames) == Connection::Wait::kStopped) return true;
  }
  return true;
}

bool PostgresUpstream::poll_names(SqlSession& session) {
  const auto answer = session.query(
      "SELECT pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.pg_current_wal_flush_lsn()");
  if (!answer) {
    set_problem(sql_problem_, answer.error());
    return false;
  }
  const std::string names = answer->front()[0].value_or("");
  const auto now = std::chrono::steady_clock::now();
  if (names_ == names && now - names_told_at_ < kRepeatNames) return true;
  names_ = names;
  names_told_at_ = now;
  const Lsn flushed_end = parse_lsn(answer->front()[1].value_or("")).value_or(Lsn{});
  push(node::UpstreamSyncNames{names_always_contain(names, options_.application_name), names, flushed_end},
       sql_events_);
  return true;
}

// After a crash of PostgreSQL the slot falls back to its last checkpoint: advanced again on each new connection.
// PostgreSQL calls a target that lies behind the slot an error, and logs it.
void PostgresUpstream::move_slot(SqlSession& session) {
  const std::uint64_t wanted = slot_end_, connection = connections_;
  if (wanted == 0 || (wanted == slot_moved_to_ && connection == slot_moved_on_)) return;
  const std::string target =
      fmt::format("least('{}'::pg_catalog.pg_lsn, pg_catalog.pg_current_wal_flush_lsn())", to_string(Lsn{wanted}));
  const auto moved = session.query(
      fmt::format("SELECT pg_catalog.pg_replication_slot_advance(slot_name, {0}) FROM pg_catalog.pg_replication_slots "
                  "WHERE slot_name = '{1}' AND NOT active AND restart_lsn < {0}",
                  target, options_.slot));
  if (moved) slot_moved_to_ = wanted, slot_moved_on_ = connection;
}

void PostgresUpstream::drop_slots(SqlSession& session) {
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    names.swap(slots_to_drop_);
  }
  for (const std::string& name : names)
    (void)session.query(
        fmt::format("SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
                    "WHERE slot_name = '{}' AND NOT active",
                    name));
}

// ---- The data thread

// It is done with what it took before it comes here again.
void PostgresUpstream::note_handled() {
  if (losses_handled_.load(std::memory_order_relaxed) != losses_taken_) losses_handled_ = losses_taken_;
}

int PostgresUpstream::readable_fd() const {
  const Stream* stream = handed_over_.load(std::memory_order_acquire);
  return stream && !stream->full() ? stream->socket() : -1;
}

void PostgresUpstream::look() {
  Stream* stream = handed_over_.load(std::memory_order_acquire);
  if (!stream) return;
  const auto now = std::chrono::steady_clock::now();
  if (!readable_ && now - looked_at_ < kLookAgain) return;
  looked_at_ = now;
  if (auto problem = stream->listen(readable_)) return lose(std::move(*problem));
  if (stream->is_asked() || now - spoke_at_ >= kSpeakAgain) speak(*stream);
}

void PostgresUpstream::speak(Stream& stream) {
  spoke_at_ = std::chrono::steady_clock::now();
  if (auto problem = stream.speak()) lose(std::move(*problem));
}

void PostgresUpstream::lose(Error why) {
  lost_ = std::move(why);
  readable_ = false;
  handed_over_.store(nullptr, std::memory_order_release);
  wake_.signal();
}

bool PostgresUpstream::next_event(node::UpstreamEvent& event) {
  note_handled();
  if (stream_events_.all_taken()) look();
  if (stream_events_.pop(event)) {
    // From here on report() speaks for this connection.
    if (std::holds_alternative<node::UpstreamConnected>(event)) ++connected_seen_, last_reported_ = {};
    if (std::holds_alternative<node::UpstreamLost>(event)) ++losses_taken_;
    return true;
  }
  return sql_events_.pop(event);
}

void PostgresUpstream::report(const node::Report& report) {
  note_handled();
  if (report != last_reported_) {
    last_reported_ = report;
    bool asleep = false;
    {
      const std::lock_guard lock(mutex_);
      if (connected_seen_ != connections_) return;  // Made for a connection that is gone.
      wanted_report_ = report;
      asleep = std::exchange(replication_sleeps_, false);
    }
    if (asleep) wake_.signal();
    spoke_at_ = {};
  }
  // Also while no events are wanted: PostgreSQL takes silence for a standby that is gone.
  Stream* stream = handed_over_.load(std::memory_order_acquire);
  if (stream && std::chrono::steady_clock::now() - spoke_at_ >= kSpeakAgain) speak(*stream);
}

void PostgresUpstream::advance_slot(Lsn end) { slot_end_.store(end.value, std::memory_order_relaxed); }

// Not urgent: the replication thread looks often enough.
void PostgresUpstream::feedback(const node::StandbyFeedback& feedback) {
  if (feedback == last_feedback_) return;
  last_feedback_ = feedback;
  const std::lock_guard lock(mutex_);
  wanted_feedback_ = feedback;
}

void PostgresUpstream::drop_slot(const std::string& name) {
  const std::lock_guard lock(mutex_);
  slots_to_drop_.push_back(name);
}

void PostgresUpstream::reconnect() {
  reconnect_ = true;
  wake_.signal();
}

}  // namespace slipstream::postgres
