#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/time.h"

namespace slipstream::sim {

// A seeded generator that gives the same numbers with every compiler. Source: SplitMix64 (prng.di.unimi.it).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) {
    CHECK(n > 0);
    return next() % n;
  }
  std::uint64_t from_to(std::uint64_t least, std::uint64_t most) { return least + below(most - least + 1); }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1.0p-53 < p; }
  Duration between(Duration least, Duration most) {
    return {least.ns + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most.ns - least.ns) + 1))};
  }
  template <class T>
  const T& one_of(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  Random fork() { return Random(next()); }  // So that one part's draws do not move another's.

 private:
  std::uint64_t state_;
};

}  // namespace slipstream::sim
