#pragma once

#include <deque>
#include <optional>
#include <span>

#include "base/lsn.h"
#include "protocol/frame.h"

namespace slipstream::node {

// The primary's memory of what it shipped last: contiguous batches whose bytes lie in a ring (the byte at position p at
// ring[p % size]). Guarantees: (1) bytes of [begin(), end()) are as they were when appended. (2) reserve() evicts whole
// batches, so begin() is always a batch's begin.
class ShipLog {
 public:
  explicit ShipLog(std::span<std::byte> ring);

  void reset(Lsn at);  // Empty, at `at`.
  Lsn begin() const { return begin_; }
  Lsn end() const { return end_; }
  bool holds(LsnRange range) const { return begin_ <= range.begin && range.end <= end_; }

  // Memory for bytes about to be read at `range`; evicts what it displaces. The range lies between multiples of 1 MiB.
  std::span<std::byte> reserve(LsnRange range);
  std::span<std::byte> memory(LsnRange range) const;
  void append(const protocol::Batch& batch);  // Begins at end(); its bytes are in memory.

  // The batch that holds `at`, from `at` on (with a digest of its own when `at` lies inside). Nothing unless begin() <=
  // at < end().
  std::optional<protocol::Batch> batch_from(Lsn at) const;

 private:
  std::span<std::byte> ring_;
  std::deque<protocol::Batch> batches_;
  Lsn begin_{};
  Lsn end_{};
};

}  // namespace slipstream::node
