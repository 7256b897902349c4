#pragma once

#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace slipstream {

// A bounded queue between exactly one producing and one consuming thread; neither ever waits.
// Lamport's ring with cached opposite indices. Capacity is a power of two.
template <class T>
class SpscRing {
 public:
  explicit SpscRing(std::size_t capacity) : slots_(capacity), mask_(capacity - 1) {
    CHECK(capacity >= 2 && (capacity & mask_) == 0);
  }

  // Producer. False (and `value` untouched) when full.
  bool push(T&& value) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == slots_.size()) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == slots_.size()) return false;
    }
    slots_[tail & mask_] = std::move(value);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // Producer. Whether the consumer has taken everything.
  bool all_taken() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_relaxed); }

  // Producer. At least so many will be taken.
  std::size_t room() const {
    return slots_.size() - (tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire));
  }

  // Consumer. False when empty.
  bool pop(T& out) {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    out = std::move(slots_[head & mask_]);
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  std::vector<T> slots_;
  const std::size_t mask_;
  alignas(64) std::atomic<std::size_t> tail_{0};
  std::size_t head_seen_ = 0;  // Producer's.
  alignas(64) std::atomic<std::size_t> head_{0};
  std::size_t tail_seen_ = 0;  // Consumer's.
};

}  // namespace slipstream
