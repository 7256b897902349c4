#pragma once

#include <array>
#include <cstddef>

#include "base/lsn.h"

namespace slipstream::node {

// Some of the places where records end, in order: to find one at or below a position that need not be a record's end.
// Holds the latest always, and at most kMost.
class RecordEnds {
 public:
  static constexpr std::size_t kMost = 64;

  void push(Lsn end) {
    if (count_ == kMost) --count_;  // Those at the front are asked for first.
    ends_[(first_ + count_++) % kMost] = end;
  }
  // The last one at or below `limit`, if one was pushed since the last that was taken; those before are forgotten.
  Lsn take_up_to(Lsn limit, Lsn otherwise) {
    for (; count_ > 0 && ends_[first_] <= limit; first_ = (first_ + 1) % kMost, --count_) otherwise = ends_[first_];
    return otherwise;
  }
  void clear() { count_ = 0; }

 private:
  std::array<Lsn, kMost> ends_{};
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace slipstream::node
