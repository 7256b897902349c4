#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"

namespace slipstream {

// A count of bytes. Signless: differences are taken only between ordered positions.
struct ByteCount {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const ByteCount&) const = default;
};

constexpr ByteCount operator+(ByteCount a, ByteCount b) { return {a.value + b.value}; }

// A position in the WAL byte stream. As an end it names the first byte not covered. 0 means "none yet".
struct Lsn {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Lsn&) const = default;
};

constexpr Lsn operator+(Lsn at, ByteCount n) { return {at.value + n.value}; }

constexpr ByteCount operator-(Lsn end, Lsn begin) {
  CHECK(begin <= end);
  return {end.value - begin.value};
}

// Largest multiple of `unit` (a power of two, bytes) at or below `at`; smallest at or above it.
constexpr Lsn align_down(Lsn at, std::uint64_t unit) { return {at.value & ~(unit - 1)}; }
constexpr Lsn align_up(Lsn at, std::uint64_t unit) { return {(at.value + unit - 1) & ~(unit - 1)}; }

// Half-open: [begin, end). Empty when begin == end.
struct LsnRange {
  Lsn begin;
  Lsn end;
  constexpr bool operator==(const LsnRange&) const = default;
  constexpr bool empty() const { return begin >= end; }
  constexpr ByteCount size() const { return end - begin; }
  constexpr bool contains(Lsn at) const { return begin <= at && at < end; }
};

// PostgreSQL's spelling: two hexadecimal halves, "16/B374D848".
std::string to_string(Lsn lsn);
std::string to_string(const LsnRange& range);  // "[16/0, 16/10)"
std::optional<Lsn> parse_lsn(std::string_view text);

}  // namespace slipstream
