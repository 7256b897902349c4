#pragma once

#include <atomic>
#include <cstdint>

#include "node/io.h"

namespace slipstream::postgres {

// The latest release, handed from the data thread (store) to any other (load); store never waits, load for no longer
// than a store takes. A sequence lock: the sequence is odd while a store is under way (H. Boehm, "Can seqlocks get
// along with programming language memory models?").
class LatestRelease {
 public:
  void store(const node::Release& release) {
    const std::uint64_t sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_relaxed);
    fed_end_.store(release.fed_end.value, std::memory_order_release);
    primary_flushed_end_.store(release.primary_flushed_end.value, std::memory_order_release);
    timeline_.store(release.timeline.value, std::memory_order_release);
    apply_awaited_end_.store(release.apply_awaited_end.value, std::memory_order_release);
    sequence_.store(sequence + 2, std::memory_order_release);
  }

  node::Release load() const {
    while (true) {
      const std::uint64_t before = sequence_.load(std::memory_order_acquire);
      node::Release out;
      out.fed_end.value = fed_end_.load(std::memory_order_acquire);
      out.primary_flushed_end.value = primary_flushed_end_.load(std::memory_order_acquire);
      out.timeline.value = timeline_.load(std::memory_order_acquire);
      out.apply_awaited_end.value = apply_awaited_end_.load(std::memory_order_acquire);
      if (before % 2 == 0 && sequence_.load(std::memory_order_relaxed) == before) return out;
    }
  }

 private:
  std::atomic<std::uint64_t> sequence_{0};
  std::atomic<std::uint64_t> fed_end_{0};
  std::atomic<std::uint64_t> apply_awaited_end_{0};
  std::atomic<std::uint64_t> primary_flushed_end_{0};
  std::atomic<std::uint32_t> timeline_{0};
};

}  // namespace slipstream::postgres
