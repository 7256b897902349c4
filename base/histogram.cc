#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace slipstream {

int Histogram::bucket_of(std::uint64_t ns) {
  if (ns < (1u << kSubBits)) return static_cast<int>(ns);
  const int exponent = static_cast<int>(std::bit_width(ns)) - 1 - kSubBits;
  const int bucket = ((exponent + 1) << kSubBits) + static_cast<int>((ns >> exponent) & ((1u << kSubBits) - 1));
  return std::min(bucket, kBuckets - 1);
}

std::uint64_t Histogram::upper_edge(int bucket) {
  if (bucket < (1 << kSubBits)) return static_cast<std::uint64_t>(bucket);
  const int exponent = (bucket >> kSubBits) - 1;
  const std::uint64_t mantissa = (1u << kSubBits) + static_cast<std::uint64_t>(bucket & ((1 << kSubBits) - 1));
  return ((mantissa + 1) << exponent) - 1;
}

void Histogram::add(Duration d) {
  const std::uint64_t ns = d.ns < 0 ? 0 : static_cast<std::uint64_t>(d.ns);
  ++buckets_[static_cast<std::size_t>(bucket_of(ns))];
  ++count_;
  max_ = std::max(max_, d);
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

Duration Histogram::quantile(double q) const {
  if (count_ == 0) return {};
  const auto rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[static_cast<std::size_t>(bucket)];
    if (seen >= rank) return std::min(Duration{static_cast<std::int64_t>(upper_edge(bucket))}, max_);
  }
  return max_;
}

}  // namespace slipstream
