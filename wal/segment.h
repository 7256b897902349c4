#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/lsn.h"

namespace slipstream::wal {

constexpr std::uint64_t kPageBytes = 8192;  // XLOG_BLCKSZ of every packaged PostgreSQL.

// Names and positions of WAL segments for one cluster's wal_segment_size (a power of two, 1 MiB to 1 GiB).
// Source: PostgreSQL's xlog_internal.h (XLogFileName, XLByteToSeg).
class SegmentLayout {
 public:
  static bool valid_size(ByteCount segment_size);
  explicit SegmentLayout(ByteCount segment_size);  // CHECKs valid_size.

  ByteCount segment_size() const { return {std::uint64_t{1} << shift_}; }
  std::uint64_t number_of(Lsn at) const { return at.value >> shift_; }
  Lsn begin_of(std::uint64_t number) const { return Lsn{number << shift_}; }
  Lsn segment_begin(Lsn at) const { return begin_of(number_of(at)); }
  Lsn segment_end(Lsn at) const { return begin_of(number_of(at) + 1); }
  std::uint64_t offset_of(Lsn at) const { return at.value - segment_begin(at).value; }

  std::string file_name(TimelineId timeline, std::uint64_t number) const;  // "000000010000000000000002"

  struct Parsed {
    TimelineId timeline;
    std::uint64_t number = 0;
    bool partial = false;  // "….partial"
  };
  // Nothing when the name is not a segment's, or not one of this segment size.
  std::optional<Parsed> parse(std::string_view file_name) const;

 private:
  int shift_;
};

std::string history_file_name(TimelineId timeline);  // "00000002.history"

}  // namespace slipstream::wal
