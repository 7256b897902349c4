#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/spsc_ring.h"
#include "node/io.h"

namespace slipstream::postgres {

struct UpstreamOptions {
  std::string conninfo;
  std::string application_name;  // As synchronous_standby_names names us.
  std::string slot;
  SystemId system;               // The cluster we belong to; 0: the first one met.
  std::function<void()> wake;    // Called when an event waits for the data thread.
};

// The primary's PostgreSQL, seen from the data thread: two threads of their own hold a replication connection (flushed stream in, positions out) and an SQL session (slot, names, stop).
// Guarantees: (1) a stream's payload is digested and dropped: no byte of it leaves this class. (2) What is sent as write/flush/apply is exactly what report() last handed over since the connection was made.
//   (3) A server with another system identifier is never spoken to beyond finding that out. (4) An unmoved position is repeated at most every 100 ms, so two ends that
//   wait for each other at a shutdown do not spin.
class PostgresUpstream : public node::Upstream {
 public:
  explicit PostgresUpstream(UpstreamOptions options);
  ~PostgresUpstream() override;

  bool next_event(node::UpstreamEvent& event) override;
  void report(const node::Report& report) override;
  void advance_slot(Lsn end) override;
  void reconnect() override;

  // Why there is no connection now; nothing while there is one. Any thread.
  std::optional<Error> problem() const;

 private:
  class Stream;
  void replication_thread();
  void sql_thread();
  void push(node::UpstreamEvent event, SpscRing<node::UpstreamEvent>& ring);
  void set_problem(std::optional<Error> problem);
  bool sleep_for(int milliseconds);

  UpstreamOptions options_;
  SpscRing<node::UpstreamEvent> stream_events_{8192};
  SpscRing<node::UpstreamEvent> sql_events_{64};
  node::Report last_reported_{};          // Data thread's.
  std::mutex mutex_;
  node::Report wanted_report_{};          // Guarded by mutex_.
  std::atomic<std::uint64_t> slot_end_{0};
  std::atomic<std::uint64_t> connections_{0};  // Replication connections made so far.
  std::atomic<std::uint64_t> connected_seen_{0};  // The one whose Connected the data thread took.
  std::atomic<bool> reconnect_{false};
  std::atomic<bool> stop_{false};
  int event_;                             // Wakes the replication thread out of poll().
  mutable std::mutex problem_mutex_;
  std::optional<Error> problem_;
  std::condition_variable stopped_;
  std::mutex stop_mutex_;
  std::thread replication_;
  std::thread sql_;
};

}  // namespace slipstream::postgres
