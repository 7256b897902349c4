#pragma once

#include <expected>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/scanner.h"
#include "wal/timeline.h"

namespace slipstream::wal {

// Where recovery reads our own segments from. Implemented over files (wal/io) and by the simulator.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  // Reads up to out.size() bytes at `at`, within one segment. 0: there is no such segment, or it ends before `at`.
  virtual std::size_t read(Lsn at, std::span<std::byte> out) = 0;
};

// All of `out`, within one segment, however many reads that takes. False: the source ends before.
[[nodiscard]] bool read_whole(SegmentSource& source, Lsn at, std::span<std::byte> out);

struct Recovered {
  Lsn durable_end;        // End of the last complete, valid record reachable from `begin`.
  Lsn last_record_begin;  // For the scanner that goes on from durable_end. 0: none.
  Scanner::Start next_start = Scanner::Start::kRecord;  // How a scanner goes on from durable_end.
  ScanFault stopped_by = ScanFault::kEnd;
  Lsn stopped_at{};  // The page or record that could not be read, at or behind durable_end.
};

// What a log holds after a crash: the valid prefix from `begin` (a record's start or a page's) and nothing more.
// Replicas acknowledge durable ends at record ends only, so this is never below an end that was acknowledged
// (docs/decisions). With a `limit` what lies from there on is taken as not there.
Recovered recover(SegmentSource& source, SegmentLayout layout, Lsn begin, Scanner::Start start, Scanner::Expect expect,
                  Lsn limit = Lsn{UINT64_MAX});

}  // namespace slipstream::wal
