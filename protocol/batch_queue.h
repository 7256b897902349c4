#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "protocol/frame.h"

namespace slipstream::protocol {

// Contiguous batches: appended at the end, forgotten from the front, found by position. Fixed capacity, no allocation
// after construction.
class BatchQueue {
 public:
  explicit BatchQueue(std::size_t capacity) : slots_(capacity) {}  // A power of two.

  bool full() const { return count_ == slots_.size(); }
  void push(const Batch& batch) {
    CHECK(!full() && (count_ == 0 || slot(count_ - 1).range.end == batch.range.begin));
    slot(count_++) = batch;
  }
  void forget_below(Lsn end) {
    while (count_ > 0 && slot(0).range.end <= end) {
      ++first_;
      --count_;
    }
  }
  // The batch that holds the byte at `at`; one must.
  const Batch& holding(Lsn at) const {
    std::size_t low = 0, high = count_;
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (at < slot(middle).range.end)
        high = middle;
      else
        low = middle + 1;
    }
    CHECK(low < count_ && slot(low).range.contains(at));
    return slot(low);
  }

 private:
  Batch& slot(std::size_t index) { return slots_[(first_ + index) & (slots_.size() - 1)]; }
  const Batch& slot(std::size_t index) const { return slots_[(first_ + index) & (slots_.size() - 1)]; }

  std::vector<Batch> slots_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace slipstream::protocol
