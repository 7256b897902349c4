#include "base/range_set.h"

#include <algorithm>

namespace slipstream {

void RangeSet::insert(LsnRange range) {
  if (range.empty()) return;
  const auto first = std::lower_bound(ranges_.begin(), ranges_.end(), range.begin,
                                      [](const LsnRange& r, Lsn at) { return r.end < at; });
  auto last = first;
  while (last != ranges_.end() && last->begin <= range.end) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
    ++last;
  }
  if (first == last) {
    ranges_.insert(first, range);
  } else {
    *first = range;
    ranges_.erase(first + 1, last);
  }
}

void RangeSet::erase(LsnRange range) {
  if (range.empty()) return;
  auto it = std::lower_bound(ranges_.begin(), ranges_.end(), range.begin,
                             [](const LsnRange& r, Lsn at) { return r.end <= at; });
  while (it != ranges_.end() && it->begin < range.end) {
    if (it->begin < range.begin && range.end < it->end) {
      const LsnRange right{range.end, it->end};
      it->end = range.begin;
      ranges_.insert(it + 1, right);
      return;
    }
    if (it->begin < range.begin) {
      it->end = range.begin;
      ++it;
    } else if (range.end < it->end) {
      it->begin = range.end;
      return;
    } else {
      it = ranges_.erase(it);
    }
  }
}

void RangeSet::erase_below(Lsn end) { erase({Lsn{0}, end}); }

bool RangeSet::contains(LsnRange range) const { return range.empty() || contiguous_end(range.begin) >= range.end; }

Lsn RangeSet::contiguous_end(Lsn begin) const {
  const auto it =
      std::upper_bound(ranges_.begin(), ranges_.end(), begin, [](Lsn at, const LsnRange& r) { return at < r.end; });
  return it != ranges_.end() && it->contains(begin) ? it->end : begin;
}

ByteCount RangeSet::size() const {
  ByteCount total;
  for (const LsnRange& range : ranges_) total = total + range.size();
  return total;
}

}  // namespace slipstream
