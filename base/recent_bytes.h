#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/lsn.h"

namespace slipstream {

// The newest bytes of a log, copied where other threads may read them while one thread appends: a seqlock over a ring
// of 8-byte words (Boehm, "Can seqlocks get along with programming language memory models?", 2012).
// Guarantees: (1) read() gives exactly what was appended at that position, or says no. (2) Neither side ever waits.
// Positions are multiples of 8. Threading: append() by one thread, read() by any.
class RecentBytes {
 public:
  explicit RecentBytes(std::size_t bytes) : words_(bytes / 8) { CHECK(bytes >= 64 && (bytes & (bytes - 1)) == 0); }

  // At end(), or further on: then what lies before is forgotten. Of what is longer than the ring its last part counts.
  void append(Lsn at, std::span<const std::byte> bytes) {
    CHECK(at.value % 8 == 0 && bytes.size() % 8 == 0 && at.value >= end_.load(std::memory_order_relaxed));
    const std::size_t skip = bytes.size() - std::min(bytes.size(), capacity());
    const bool gap = at.value != end_.load(std::memory_order_relaxed) || skip > 0;
    const std::uint64_t first = at.value + skip, end = at.value + bytes.size();
    const std::uint64_t kept = end > capacity() ? end - capacity() : 0;
    begin_.store(std::max({begin_.load(std::memory_order_relaxed), kept, gap ? first : 0}), std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);  // Who reads a new word sees the new begin too.
    for (std::uint64_t position = first; position < end; position += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + (position - at.value), sizeof word);
      slot(position).store(word, std::memory_order_relaxed);
    }
    end_.store(end, std::memory_order_release);
  }

  // All of `out`, or nothing of use and false.
  bool read(Lsn at, std::span<std::byte> out) const {
    if (at.value % 8 != 0 || out.size() % 8 != 0) return false;
    const std::uint64_t end = end_.load(std::memory_order_acquire);
    if (at.value < begin_.load(std::memory_order_relaxed) || at.value > end || out.size() > end - at.value)
      return false;
    for (std::size_t i = 0; i < out.size(); i += 8) {
      const std::uint64_t word = slot(at.value + i).load(std::memory_order_relaxed);
      std::memcpy(out.data() + i, &word, sizeof word);
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    return at.value >= begin_.load(std::memory_order_relaxed);
  }

  Lsn end() const { return {end_.load(std::memory_order_relaxed)}; }

 private:
  std::size_t capacity() const { return words_.size() * 8; }
  std::atomic<std::uint64_t>& slot(std::uint64_t position) { return words_[position / 8 & (words_.size() - 1)]; }
  const std::atomic<std::uint64_t>& slot(std::uint64_t position) const {
    return words_[position / 8 & (words_.size() - 1)];
  }

  std::vector<std::atomic<std::uint64_t>> words_;
  std::atomic<std::uint64_t> begin_{0}, end_{0};
};

}  // namespace slipstream
