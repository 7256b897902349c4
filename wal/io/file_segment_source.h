#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "wal/ledger.h"
#include "wal/recovery.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::wal::io {

// Reads segments by position with plain pread: for recovery and other work that may wait.
// With a history: each position from the file that the history says holds it, or, before anything was written behind a
// fork, from its ancestor's. Without: from the newest timeline that has the segment. Bytes come from a file that still
// bore its name after they were read (PostgreSQL recycles segments by renaming them).
class FileSegmentSource : public SegmentSource {
 public:
  FileSegmentSource(std::filesystem::path directory, SegmentLayout layout,
                    std::optional<TimelineHistory> history = std::nullopt);
  ~FileSegmentSource() override;
  FileSegmentSource(const FileSegmentSource&) = delete;
  FileSegmentSource& operator=(const FileSegmentSource&) = delete;
  std::size_t read(Lsn at, std::span<std::byte> out) override;
  // What kept the last read() from reading a segment that is there: 0 bytes were no end then.
  const std::optional<Error>& problem() const { return problem_; }

 private:
  std::string name_of(std::uint64_t number) const;  // Empty: no such segment.
  bool open_segment(std::uint64_t number);
  bool still_named() const;
  void close_segment();
  void note_problem(Lsn at, int error);

  const std::filesystem::path directory_;
  const SegmentLayout layout_;
  const std::optional<TimelineHistory> history_;
  int fd_ = -1;
  std::uint64_t number_ = 0;
  std::filesystem::path path_;
  std::optional<Error> problem_;
};

// Digests of the aligned 64 KiB blocks of `range` (of its part of the first and the last). Stops at the first byte that
// is not there.
std::vector<BlockDigest> digest_blocks(SegmentSource& source, SegmentLayout layout, LsnRange range);

}  // namespace slipstream::wal::io
