#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/spsc_ring.h"
#include "node/io.h"
#include "postgres/event.h"

namespace slipstream::postgres {

class SqlSession;

struct UpstreamOptions {
  std::string conninfo;
  std::string application_name;  // As synchronous_standby_names names us.
  std::string slot;
  SystemId system;             // The cluster we belong to; 0: the first one met.
  std::function<void()> wake;  // Called when an event waits for the data thread.
  // Given where WAL may go ahead of its flush: then all is flushed before each connection (S1), and this finds
  // UpstreamConnected::stale_end, on the replication thread.
  std::function<Lsn(Lsn flushed_end, TimelineId)> stale_end{};
  // Once it streams, the replication connection is read by next_event() and written by report(), without a thread
  // between: two wake-ups less for a commit. Else by a thread of its own, for a data
  // thread that does not sleep until a descriptor wakes it.
  bool on_data_thread = false;
};

// The primary's PostgreSQL, seen from the data thread: two threads of their own hold a replication connection (flushed
// stream in, positions out) and an SQL session (slot, names, stop). Guarantees: (1) a stream's payload is digested and
// dropped: no byte of it leaves this class. (2) What is sent as write/flush/apply is exactly what report() last handed
// over since the connection was made.
//   (3) A server with another system identifier, or one in recovery, is never spoken to beyond finding that out. (4)
//   stop() waits for no server, whatever state it is in. (5) A stopping PostgreSQL is answered, at most every 100 ms,
//   for as long as the report moves; one second after its last move the connection is dropped, so that PostgreSQL's
//   walsender, which waits for a confirmation of everything, never waits for a quorum that does not come. (6) A new
//   connection is told
// only after the data thread was done with the loss of the one before, and PostgreSQL flushed everything after that
// (S1).
class PostgresUpstream : public node::Upstream {
 public:
  explicit PostgresUpstream(UpstreamOptions options);
  ~PostgresUpstream() override;  // stop().

  bool next_event(node::UpstreamEvent& event) override;
  void report(const node::Report& report) override;
  void advance_slot(Lsn end) override;
  void feedback(const node::StandbyFeedback& feedback) override;
  void drop_slot(const std::string& name);  // Soon, if it is there and unused.
  void reconnect() override;

  // With on_data_thread, the data thread's: becomes readable when next_event() has something to take, or -1: not now.
  int readable_fd() const;
  void on_readable() { readable_ = true; }  // It did. Without being told, next_event() looks now and then.

  // Drops both connections and ends both threads. Once; nothing is heard or reported afterwards. Of the data thread, or
  // when that has ended.
  void stop();

  // Why there is no replication connection now, or else no SQL session, or else why not all was flushed before the
  // connection; nothing while all is well. Any thread.
  std::optional<Error> problem() const;

 private:
  class Stream;
  void replication_thread();
  bool stream();
  Error hand_over(Stream& stream);
  void look();
  void speak(Stream& stream);
  void lose(Error why);
  bool wait_until_loss_is_handled();
  void note_handled();
  void sql_thread();
  bool serve_sql(SqlSession& session);
  bool poll_names(SqlSession& session);
  void move_slot(SqlSession& session);
  void drop_slots(SqlSession& session);
  void push(node::UpstreamEvent event, SpscRing<node::UpstreamEvent>& ring);
  void set_problem(std::optional<Error>& which, std::optional<Error> problem);
  bool sleep_for(int milliseconds);

  UpstreamOptions options_;
  SpscRing<node::UpstreamEvent> stream_events_{8192};
  SpscRing<node::UpstreamEvent> sql_events_{64};
  node::Report last_reported_{};           // Data thread's.
  node::StandbyFeedback last_feedback_{};  // Data thread's.
  std::uint64_t losses_taken_ = 0;         // Data thread's.
  bool readable_ = false;                  // Data thread's, as the next two.
  std::chrono::steady_clock::time_point looked_at_{}, spoke_at_{};

  // on_data_thread: the data thread's while it is set, the replication thread's again once that has cleared it.
  std::atomic<Stream*> handed_over_{nullptr};
  std::optional<Error> lost_{};  // Why it was cleared.

  std::mutex mutex_;
  node::Report wanted_report_{};             // Guarded by mutex_.
  node::StandbyFeedback wanted_feedback_{};  // Guarded by mutex_.
  bool replication_sleeps_ = false;          // Guarded by mutex_: a new report must wake the replication thread.
  std::vector<std::string> slots_to_drop_;   // Guarded by mutex_.
  std::atomic<std::uint64_t> slot_end_{0};
  std::atomic<std::uint64_t> connections_{0};     // Replication connections made so far.
  std::atomic<std::uint64_t> connected_seen_{0};  // The one whose Connected the data thread took.
  std::uint64_t losses_ = 0;                      // Replication thread's: connections whose loss it has told.
  std::atomic<std::uint64_t> losses_handled_{0};  // Of these, the ones that the data thread is done with.
  std::atomic<bool> reconnect_{false};
  std::atomic<bool> server_stops_{false};  // As the SQL session was told; until there is a new connection.
  std::atomic<bool> stop_{false};
  Event wake_;     // For the replication thread.
  Event stopped_;  // Ends every wait.

  mutable std::mutex problem_mutex_;
  std::optional<Error> stream_problem_, sql_problem_, flush_problem_;  // Guarded by problem_mutex_.

  // The SQL thread's.
  std::optional<std::string> names_;
  std::chrono::steady_clock::time_point names_told_at_{};
  std::uint64_t slot_moved_to_ = 0, slot_moved_on_ = 0;  // Where to, and on which replication connection.

  std::thread replication_;
  std::thread sql_;
};

}  // namespace slipstream::postgres
