#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "seal/secret.h"

namespace slipstream::seal {

inline std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoul(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}
inline Secret secret_from(std::string_view hex) {
  const auto bytes = from_hex(hex);
  return Secret(std::span(bytes).first<kKeyBytes>());
}
inline std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const std::byte each : bytes) {
    out += kDigits[static_cast<std::size_t>(each >> 4)];
    out += kDigits[static_cast<std::size_t>(each & std::byte{15})];
  }
  return out;
}

// Reproducible bytes, for tests.
inline auto counting_source(std::uint64_t seed) {
  return [state = seed](std::span<std::byte> out) mutable {
    for (std::byte& each : out) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      each = static_cast<std::byte>(state >> 56);
    }
  };
}

}  // namespace slipstream::seal
