#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/ids.h"
#include "wal/segment.h"

namespace slipstream::app {

struct ArchiveOptions {
  std::string command;  // primary.restore_command: %f a segment's name, %p where to put it, %% a percent sign.
  std::filesystem::path directory;  // Where fetched segments lie; made here, emptied at start. Ours alone.
  wal::SegmentLayout layout;
  SystemId system;
  std::function<void()> wake;  // After each fetch.
};

// Brings WAL that PostgreSQL has removed back from an archive, for replicas that catch up: runs a restore_command as
// PostgreSQL would, segment by segment, and kAhead more behind each that was asked for. Guarantees: (1) A file that is
// there is whole and valid: of the segment's size, at its place in this cluster's WAL by every page and record, and
// named last. (2) At most kFilesMax files lie there. (3) What is not in the archive is asked for again after kAskAgain.
// Threading: ask() is for one thread, and waits for nothing; a thread of its own runs the command.
class Archive {
 public:
  static constexpr std::size_t kFilesMax = 8;
  static constexpr int kAhead = 2;  // So that two replicas at different places are not in each other's way.
  static constexpr std::chrono::seconds kAskAgain{5};

  explicit Archive(ArchiveOptions options);
  ~Archive();  // Ends a command that runs.
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  enum class Answer : std::uint8_t { kFetching, kThere, kNotThere };
  Answer ask(TimelineId timeline, std::uint64_t number);

 private:
  struct Segment {
    TimelineId timeline;
    std::uint64_t number = 0;
    auto operator<=>(const Segment&) const = default;
  };
  struct Wanted {
    Segment segment;
    int ahead = 0;  // So many behind it are fetched too.
  };
  struct Known {
    Answer answer = Answer::kFetching;
    std::chrono::steady_clock::time_point since;
  };
  void run();
  bool fetch(const Segment& segment);
  bool stopped();
  int run_command(const std::string& command);
  void keep_few();

  const ArchiveOptions options_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::map<Segment, Known> known_;  // Guarded by mutex_, as the rest.
  std::deque<Wanted> queue_;
  std::deque<Segment> there_;  // In the order they came.
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace slipstream::app
