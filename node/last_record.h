#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/ids.h"
#include "base/lsn.h"
#include "wal/scanner.h"
#include "wal/segment.h"

namespace slipstream::node {

// Finds where the last record ends at or below a position, in the bytes that a replica is sent. PostgreSQL's flushed
// end is no record's end behind a switch of segments, or inside a long record, while a replica's durable end always is:
// only the next record would take it there. Guarantees: (1) No record that is complete at or below the position ends
// behind end(). (2) Where the bytes do not
//   allow to say so (they are no valid WAL, or a record's beginning was never seen), end() stays unknown.
class LastRecord {
 public:
  // `begin` is the end of a record or of an XLOG_SWITCH record, or a segment's begin where the replica's log begins.
  LastRecord(wal::SegmentLayout layout, SystemId system, Lsn begin)
      : layout_(layout), system_(system), begin_(begin), seen_end_(begin) {}

  void aim(Lsn position);  // end() is unknown until the bytes up to there were seen, and if more were seen before.
  // The bytes at [seen_end(), seen_end() + bytes.size()).
  void on_bytes(std::span<const std::byte> bytes);

  Lsn seen_end() const { return seen_end_; }
  std::optional<Lsn> end() const { return end_; }

 private:
  void scan(std::span<const std::byte> bytes);
  void look();

  wal::SegmentLayout layout_;
  SystemId system_;
  Lsn begin_;
  Lsn seen_end_;
  Lsn position_{};
  bool begins_at_record_ = true;
  std::optional<wal::Scanner> scanner_;  // From the first bytes on: they tell how to begin.
  std::optional<Lsn> end_;
};

}  // namespace slipstream::node
