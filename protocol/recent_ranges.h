#pragma once

#include <array>

#include "base/range_set.h"
#include "base/time.h"

namespace slipstream::protocol {

// What was sent again lately, so that it is not sent a third time while still on its way. Forgets by generations: a
// range is remembered for at least `hold` and at most a third longer.
class RecentRanges {
 public:
  void hold_for(Duration hold) { generation_.ns = hold.ns / static_cast<std::int64_t>(kGenerations - 1) + 1; }
  void insert(LsnRange range, Instant now);
  void take_from(RangeSet& set, LsnRange within, Instant now);  // Erases what is remembered and overlaps `within`.

 private:
  static constexpr std::size_t kGenerations = 4;
  void forget(Instant now);

  std::array<RangeSet, kGenerations> generations_;
  std::size_t newest_ = 0;
  Instant turned_{};  // When the newest generation began.
  Duration generation_{1};
};

}  // namespace slipstream::protocol
