#pragma once

#include <array>
#include <cstdint>

#include "base/time.h"

namespace slipstream {

// Counts durations in log-linear buckets: 16 per power of two, so a quantile is off by at most 1/16. Fixed size, no
// allocation. From 0 to about 18 minutes; longer ones count in the last bucket.
class Histogram {
 public:
  void add(Duration d);
  void merge(const Histogram& other);
  std::uint64_t count() const { return count_; }
  // The upper edge of the bucket that holds the q-quantile (0 <= q <= 1); zero when empty.
  Duration quantile(double q) const;
  Duration max() const { return max_; }
  void clear() { *this = Histogram{}; }

 private:
  static constexpr int kSubBits = 4;
  static constexpr int kBuckets = 37 << kSubBits;
  static int bucket_of(std::uint64_t ns);
  static std::uint64_t upper_edge(int bucket);

  std::array<std::uint32_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  Duration max_{};
};

}  // namespace slipstream
