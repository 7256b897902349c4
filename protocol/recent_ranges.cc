#include "protocol/recent_ranges.h"

#include <algorithm>

namespace slipstream::protocol {

void RecentRanges::forget(Instant now) {
  const std::int64_t turns = (now - turned_).ns / generation_.ns;
  if (turns <= 0) return;
  const auto all = static_cast<std::int64_t>(kGenerations);
  for (std::int64_t i = 0; i < std::min(turns, all); ++i) {
    newest_ = (newest_ + 1) % kGenerations;
    generations_[newest_].clear();
  }
  turned_ = turns < all ? turned_ + generation_ * turns : now;
}

void RecentRanges::insert(LsnRange range, Instant now) {
  forget(now);
  generations_[newest_].insert(range);
}

void RecentRanges::take_from(RangeSet& set, LsnRange within, Instant now) {
  forget(now);
  for (const RangeSet& each : generations_) {
    const auto& ranges = each.ranges();
    auto it = std::lower_bound(ranges.begin(), ranges.end(), within.begin,
                               [](const LsnRange& r, Lsn at) { return r.end <= at; });
    for (; it != ranges.end() && it->begin < within.end; ++it) set.erase(*it);
  }
}

}  // namespace slipstream::protocol
