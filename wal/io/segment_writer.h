#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/lsn.h"
#include "wal/io/io_ring.h"
#include "wal/io/io_status.h"
#include "wal/io/segment_maker.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::wal::io {

// Writes a replica's segments durably: PostgreSQL's names, O_DIRECT and RWF_DSYNC where the file system takes them
// (tried when made), a write followed by fdatasync elsewhere. Guarantees: (1) A write that was accepted ends exactly
// once, by on_completion() or next_failed().
//   (2) kOk: the bytes survive a power cut, and so does everything they need: the file, its size, its name.
//   (3) Nothing here waits: a write whose segment is not made yet is kept until it is; the next segment is made ahead
//   of need (SegmentMaker). (4) kNoSpace: the segment could not be made, or not be written; the same write may be
//   submitted again later.
// Ownership: the bytes stay the writer's until the write has ended; their address is a multiple of 4096.
// Threading: made anywhere, used by the ring's thread; `wake` is called on another one, when a segment has become
// ready. The caller's duty: writes that touch the same 4 KiB block are never under way together.
class SegmentWriter {
 public:
  static constexpr std::size_t kWritesMax = 32;
  static constexpr std::uint64_t kBlock = 4096;
  static constexpr std::uint64_t kUserMark = std::uint64_t{1} << 61;

  // The directory's own history file says where `timeline` forked off.
  SegmentWriter(IoRing& ring, std::filesystem::path directory, SegmentLayout layout, TimelineId timeline,
                std::function<void()> wake, bool allow_direct = true);
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // For writes submitted from now on. With a timeline alone its history file is read from the directory.
  void set_timeline(TimelineId timeline);
  void set_history(TimelineHistory history);

  bool submit(std::uint32_t id, Lsn at, std::span<const std::byte> bytes);  // False: too many under way.
  void go_on();  // Hands writes whose segment became ready to the ring. Once a turn.
  std::optional<IoDone> on_completion(const IoRing::Completion& completion);
  std::optional<IoDone> next_failed();  // Writes that ended without a completion: their segment could not be made.
  bool direct() const { return direct_; }

 private:
  static constexpr std::size_t kSegmentsMax = 4;  // Open ones, unless more are being written.
  struct Write {
    bool busy = false;
    std::uint32_t id = 0;
    Lsn at{};
    std::span<const std::byte> bytes;
    std::size_t have = 0;
    bool started = false;  // Handed to the ring.
    TimelineId owner;      // Of the file.
    std::shared_ptr<const TimelineHistory> history;
  };
  struct Segment {
    std::uint64_t number = 0;
    TimelineId owner;
    int fd = -1;  // -1: being made.
    std::uint64_t used = 0;
  };

  Segment* find(std::uint64_t number, TimelineId owner);
  void prepare(std::uint64_t number, const std::shared_ptr<const TimelineHistory>& history);
  bool older_writes_under_way(std::uint64_t number, TimelineId owner) const;
  void on_made(const SegmentMaker::Made& made);
  void close_unused(std::size_t keep);
  bool start(std::size_t index);
  std::optional<IoDone> ended(std::size_t index, IoStatus status);

  IoRing& ring_;
  const std::filesystem::path directory_;
  const SegmentLayout layout_;
  const bool direct_;
  std::shared_ptr<const TimelineHistory> history_;
  SegmentMaker maker_;
  std::array<Write, kWritesMax> writes_{};
  std::deque<std::size_t> waiting_;  // For their segment, or for room in the ring.
  std::deque<IoDone> failed_;
  std::vector<Segment> segments_;
  std::uint64_t uses_ = 0;
  std::uint64_t ahead_ =
      0;  // Highest segment asked for ahead of need: once each, so that a full disk is not tried over and over.
};

}  // namespace slipstream::wal::io
