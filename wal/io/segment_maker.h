#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <thread>

#include "base/spsc_ring.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::wal::io {

// Opens a replica's segment files for writing, on a thread of its own, and makes those that do not exist.
// Guarantees: (1) A segment bears its name only when it is whole: written to its full size with zeros (not merely
// allocated, so that
//       overwriting needs no metadata), durable, then renamed; and it is handed over only when the name is durable too.
//   (2) The first segment of a timeline that forks off inside it starts with its ancestor's bytes, as PostgreSQL's
//   does. (3) After a failure nothing of the segment is left behind.
// Ownership: the descriptors handed over are the caller's.
// Threading: request() and next_made() on one thread; neither waits. `wake` is called on the maker's.
class SegmentMaker {
 public:
  static constexpr std::size_t kRequestsMax = 8;
  struct Made {
    std::uint64_t number = 0;
    TimelineId owner;
    int fd = -1;
    int problem = 0;  // errno, when fd is -1.
  };

  SegmentMaker(std::filesystem::path directory, SegmentLayout layout, bool direct, std::function<void()> wake);
  ~SegmentMaker();
  SegmentMaker(const SegmentMaker&) = delete;
  SegmentMaker& operator=(const SegmentMaker&) = delete;

  bool request(std::uint64_t number,
               std::shared_ptr<const TimelineHistory> history);  // False: too many, try again later.
  std::optional<Made> next_made();

 private:
  struct Request {
    std::uint64_t number = 0;
    std::shared_ptr<const TimelineHistory> history;
  };
  void run();
  Made make(const Request& request) const;
  int open_existing(const std::filesystem::path& path, int& fd) const;
  int make_new(const Request& request, const std::filesystem::path& path) const;
  int fill(int fd, int ancestor, std::uint64_t ancestor_bytes) const;

  const std::filesystem::path directory_;
  const SegmentLayout layout_;
  const bool direct_;
  const std::function<void()> wake_;
  SpscRing<Request> requests_{kRequestsMax};
  SpscRing<Made> made_{kRequestsMax};
  std::size_t under_way_ = 0;  // Requested and not yet handed over: at most kRequestsMax.
  std::counting_semaphore<> work_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace slipstream::wal::io
