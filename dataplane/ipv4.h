#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace slipstream::dataplane {

// "10.0.0.1" is 0x0a000001.
std::optional<std::uint32_t> parse_ipv4(const std::string& text);

// A host's address and how many of its first bits name the network that it shares with its neighbours.
struct Ipv4Prefix {
  std::uint32_t address = 0;
  unsigned bits = 0;  // 0 to 32.

  bool contains(std::uint32_t other) const { return bits == 0 || (address ^ other) >> (32 - bits) == 0; }
};

// "10.0.0.1/24". Without a length: 0 bits, every address is a neighbour's.
std::optional<Ipv4Prefix> parse_ipv4_prefix(const std::string& text);

}  // namespace slipstream::dataplane
