#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/lsn.h"
#include "base/recent_bytes.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::postgres {

enum class FeedRead : std::uint8_t { kOk, kMissing /* no such segment */, kFailed };

// What a feed streams from, as its sessions see it.
class FeedSource {
 public:
  virtual ~FeedSource() = default;
  virtual Lsn log_begin() const = 0;
  virtual const wal::SegmentLayout& layout() const = 0;
  // `timeline` and its ancestors; nothing while its history file is not there. Valid until the next call.
  virtual const wal::TimelineHistory* history(TimelineId timeline) = 0;
  virtual std::optional<std::string> history_file(TimelineId timeline) = 0;
  // Fills `out`, which lies within one segment and one timeline of `history`.
  virtual FeedRead read(const wal::TimelineHistory& history, Lsn at, std::span<std::byte> out) = 0;
};

// A replica's directory of segments and timeline histories, read as a feed needs it. Waits for the disk, never writes.
// Guarantees: (1) A byte is taken from its own timeline's file where that is there; otherwise from the newest
// descendant's, whose first
//   segment begins with its ancestor's bytes.
//   (2) What `recent` holds is not read from the disk again: the replica writes past the page cache.
//   (3) No file that lies before log_begin() is kept open.
// Threading: one thread.
class FeedLog : public FeedSource {
 public:
  FeedLog(std::filesystem::path directory, wal::SegmentLayout layout, Lsn log_begin,
          const RecentBytes* recent = nullptr);
  ~FeedLog() override;
  FeedLog(const FeedLog&) = delete;
  FeedLog& operator=(const FeedLog&) = delete;

  Lsn log_begin() const override { return log_begin_; }
  const wal::SegmentLayout& layout() const override { return layout_; }
  const wal::TimelineHistory* history(TimelineId timeline) override;
  std::optional<std::string> history_file(TimelineId timeline) override;
  FeedRead read(const wal::TimelineHistory& history, Lsn at, std::span<std::byte> out) override;

  void set_log_begin(Lsn begin);

 private:
  struct File {
    TimelineId timeline;
    std::uint64_t number = 0;
    int fd = -1;
    std::uint64_t used = 0;
  };
  int open_segment(TimelineId timeline, std::uint64_t number);
  static void close_file(File& file);

  std::filesystem::path directory_;
  wal::SegmentLayout layout_;
  Lsn log_begin_;
  const RecentBytes* recent_;
  std::optional<wal::TimelineHistory> history_;
  std::array<File, 8> files_{};
  std::uint64_t uses_ = 0;
};

}  // namespace slipstream::postgres
