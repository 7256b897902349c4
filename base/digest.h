#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

namespace slipstream {

// XXH3 (github.com/Cyan4973/xxHash), seed 0. Detects damage; is no authenticator.
std::uint64_t xxh3_64(std::span<const std::byte> bytes);

struct Digest128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  constexpr auto operator<=>(const Digest128&) const = default;
};

Digest128 xxh3_128(std::span<const std::byte> bytes);

}  // namespace slipstream
