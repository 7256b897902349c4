#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/lsn.h"
#include "wal/segment.h"

namespace slipstream::wal {

// Makes valid WAL as PostgreSQL 15 does, in memory: pages, long headers at segments' starts, records with links and
// CRCs, readable by pg_waldump. The records change nothing (XLOG_NOOP). For tests and benchmarks. (xlogrecord.h,
// xlog_internal.h)
class WalWriter {
 public:
  WalWriter(Lsn begin, ByteCount segment_size, SystemId system)
      : layout_(segment_size), system_(system), begin_(begin) {}

  // Appends a record with `payload_bytes` of payload behind its header of 24 bytes, all but the payload's own first 2
  // or 5 of the value `fill`; returns its end.
  Lsn record(std::size_t payload_bytes, std::uint8_t fill = 0x5a);
  // Appends an XLOG_SWITCH record and the rest of its segment, zeros; returns the record's end.
  Lsn switch_segment();

  Lsn begin() const { return begin_; }
  Lsn end() const { return begin_ + ByteCount{bytes_.size()}; }
  Lsn previous() const { return previous_; }  // The last record's begin.
  std::span<std::byte> at(LsnRange range) {
    return std::span(bytes_).subspan((range.begin - begin_).value, range.size().value);
  }
  // Keeps nothing of what was written so far: begin() is end() from now on.
  void forget();

  // Forgets everything from `end` on (the server lost it).
  void cut(Lsn end, Lsn previous);
  // After cut() at a page's begin, within a record: the server goes on without that record, as the next page says.
  void abandon_record() { abandoned_ = true; }

 private:
  Lsn append(std::uint8_t info, std::size_t payload_bytes, std::uint8_t fill);
  void put(std::span<const std::byte> bytes);
  void page_header(std::uint32_t remaining);

  SegmentLayout layout_;
  SystemId system_;
  Lsn begin_;
  Lsn previous_{};
  bool abandoned_ = false;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> record_;
};

}  // namespace slipstream::wal
