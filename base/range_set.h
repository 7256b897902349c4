#pragma once

#include <cstddef>
#include <vector>

#include "base/lsn.h"

namespace slipstream {

// A set of positions kept as sorted, disjoint, non-adjacent half-open ranges. Small by nature (gaps in a window),
// so a sorted vector: contiguous, and without allocation once its capacity is reached.
class RangeSet {
 public:
  explicit RangeSet(std::size_t ranges_expected = 64) { ranges_.reserve(ranges_expected); }

  void insert(LsnRange range);
  void erase(LsnRange range);
  void erase_below(Lsn end);
  void clear() { ranges_.clear(); }

  bool contains(LsnRange range) const;  // Every position of it. An empty range is contained.
  Lsn contiguous_end(Lsn begin) const;  // First position at or after `begin` that is not in the set.
  bool empty() const { return ranges_.empty(); }
  ByteCount size() const;  // Positions in the set.
  const std::vector<LsnRange>& ranges() const { return ranges_; }

 private:
  std::vector<LsnRange> ranges_;
};

}  // namespace slipstream
