#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/lsn.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::app {

// What of a log will not change any more.
struct CompleteLog {
  LsnRange range;
  TimelineId timeline;  // By whose history its positions belong to files.
};

struct LedgerKeeperOptions {
  std::filesystem::path wal_directory;
  std::filesystem::path ledger_directory;  // Made here; its parent exists.
  wal::SegmentLayout layout;
  std::function<std::optional<CompleteLog>()>
      complete;  // Called on the keeper's thread, and may wait. Nothing: not known now.
  std::chrono::milliseconds period{1000};
  std::chrono::milliseconds pause{5};  // After each piece that was read: at most 200 MB/s are.
};

// Keeps a ledger beside every complete segment: once a period makes those that are missing, the oldest segment's first,
// and removes those whose segment is gone or is not complete any more. Guarantees: (1) A segment has a ledger only when
// all of it lies in the complete range, in the file that the timeline's history says holds it.
//   (2) Nothing waits for it: it runs at the lowest priority of processor and disk; what fails is logged once and tried
//   again. (3) stop() waits for the piece that is being read or the ledger that is being written, no longer; an
//   unfinished ledger leaves nothing.
// Threading: a thread of its own. `complete` must be able to return when stop() is called.
class LedgerKeeper {
 public:
  explicit LedgerKeeper(LedgerKeeperOptions options);
  ~LedgerKeeper() { stop(); }
  LedgerKeeper(const LedgerKeeper&) = delete;
  LedgerKeeper& operator=(const LedgerKeeper&) = delete;
  void stop();

 private:
  void run();
  bool keep_up(const CompleteLog& log);
  bool make_missing(const CompleteLog& log);
  bool remove_stale(Lsn complete_end);
  const wal::TimelineHistory& history_of(TimelineId timeline);
  bool wait(std::chrono::milliseconds time);  // False: stopped.
  void tell(const std::string& problem);

  const LedgerKeeperOptions options_;
  wal::TimelineHistory history_{TimelineId{1}};
  std::string told_;  // The problem that was logged last; empty when all is well.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;  // Guarded by mutex_.
  std::thread thread_;
};

}  // namespace slipstream::app
