#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace slipstream::dataplane {

using MacAddress = std::array<std::byte, 6>;
constexpr MacAddress kBroadcast{std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
                                std::byte{0xff}, std::byte{0xff}, std::byte{0xff}};

// "02:00:00:00:01:02"
std::optional<MacAddress> parse_mac(const std::string& text);

// RFC 1071, of at most 64 KiB. Over bytes with their checksum in place it is 0.
std::uint16_t internet_checksum(std::span<const std::byte> bytes);

// Where a datagram comes from or goes to. The IPv4 address is a number: 10.0.0.1 is 0x0a000001.
struct Endpoint {
  MacAddress mac{};
  std::uint32_t address = 0;
  std::uint16_t udp_port = 0;
};

constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kIpUdpBytes = 28;
constexpr std::size_t kPacketHeaderBytes = kEthernetBytes + kIpUdpBytes;

// Writes Ethernet, IPv4 (RFC 791) and UDP (RFC 768) headers for a datagram of `frame_bytes` to the first
// kPacketHeaderBytes of `packet`. IPv4's checksum is computed: some clouds drop packets without. UDP's is 0, "none":
// frames carry stronger checks of their own.
void write_headers(std::span<std::byte> packet, const Endpoint& from, const Endpoint& to, std::uint16_t identification,
                   std::size_t frame_bytes);

struct Datagram {
  MacAddress from_mac{};
  std::uint32_t from_address = 0;
  std::span<const std::byte> frame;
  std::size_t offset = 0;  // Of the frame in the packet.
};

// The datagram inside a received packet, if it is one to `to` (its MAC does not matter). Nothing when it is none: not
// IPv4 without options, a damaged IP header, a fragment, not UDP, for another address or UDP port, empty, or lengths
// that contradict each other. The packet may be padded.
std::optional<Datagram> open_packet(std::span<const std::byte> packet, const Endpoint& to);

}  // namespace slipstream::dataplane
