#pragma once

#include <compare>
#include <cstdint>

namespace slipstream {

// A length of time in nanoseconds.
struct Duration {
  std::int64_t ns = 0;
  constexpr auto operator<=>(const Duration&) const = default;
};

constexpr Duration microseconds(std::int64_t n) { return {n * 1'000}; }
constexpr Duration milliseconds(std::int64_t n) { return {n * 1'000'000}; }
constexpr Duration seconds(std::int64_t n) { return {n * 1'000'000'000}; }
constexpr Duration operator+(Duration a, Duration b) { return {a.ns + b.ns}; }
constexpr Duration operator-(Duration a, Duration b) { return {a.ns - b.ns}; }
constexpr Duration operator*(Duration a, std::int64_t n) { return {a.ns * n}; }

// A moment on one host's monotonic clock, in nanoseconds. The core never reads a clock: Instants are handed in.
struct Instant {
  std::int64_t ns = 0;
  constexpr auto operator<=>(const Instant&) const = default;
};

constexpr Instant kNever{INT64_MAX};  // A deadline that does not come.

constexpr Instant operator+(Instant at, Duration d) { return {at.ns + d.ns}; }
constexpr Duration operator-(Instant later, Instant earlier) { return {later.ns - earlier.ns}; }

}  // namespace slipstream
