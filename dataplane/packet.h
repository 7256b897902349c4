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
  std::uint16_t vlan = 0;  // 1 to 4094; 0: packets carry no tag.
};

constexpr std::uint16_t kEthernetArp = 0x0806, kEthernetIpv4 = 0x0800;
constexpr std::size_t kEthernetBytes = 14, kVlanTagBytes = 4;
constexpr std::size_t kIpBytes = 20, kUdpBytes = 8, kIpUdpBytes = kIpBytes + kUdpBytes;
constexpr std::size_t ethernet_bytes(std::uint16_t vlan) { return kEthernetBytes + (vlan ? kVlanTagBytes : 0); }
constexpr std::size_t packet_header_bytes(std::uint16_t vlan) { return ethernet_bytes(vlan) + kIpUdpBytes; }

// Writes an Ethernet header, with a tag (IEEE 802.1Q) when `from` is in a VLAN, to the first ethernet_bytes(from.vlan)
// of `packet`. Tags are written and read here on every device: an offload saves nothing that is measurable.
void write_ethernet(std::span<std::byte> packet, const MacAddress& to, const Endpoint& from, std::uint16_t type);

struct EthernetHeader {
  MacAddress from{};
  std::uint16_t type = 0;  // Of what follows the header.
  std::size_t bytes = 0;   // The header's, tag included.
};

// The header of a received packet that belongs to `vlan`. Nothing: too short, or another VLAN's. To 0 belongs what has
// no tag, or one that gives a priority only.
std::optional<EthernetHeader> open_ethernet(std::span<const std::byte> packet, std::uint16_t vlan);

// Writes Ethernet, IPv4 (RFC 791) and UDP (RFC 768) headers for a datagram of `frame_bytes` to the first
// packet_header_bytes(from.vlan) of `packet`. IPv4's checksum is computed (some clouds drop packets without), unless
// the device does that: then it is 0 until sent. UDP's is 0, "none": frames carry stronger checks of their own.
void write_headers(std::span<std::byte> packet, const Endpoint& from, const Endpoint& to, std::uint16_t identification,
                   std::size_t frame_bytes, bool device_writes_checksum = false);

struct Datagram {
  MacAddress from_mac{};
  std::uint32_t from_address = 0;
  std::span<const std::byte> frame;
  std::size_t offset = 0;  // Of the frame in the packet.
};

// The datagram inside a received packet, if it is one to `to` (its MAC does not matter). Nothing when it is none: of
// another VLAN, not IPv4 without options, a damaged IP header, a fragment, not UDP, for another address or UDP port,
// empty, or lengths that contradict each other. The packet may be padded. With `checksum_is_good` the device has looked
// at IPv4's.
std::optional<Datagram> open_packet(std::span<const std::byte> packet, const Endpoint& to,
                                    bool checksum_is_good = false);

}  // namespace slipstream::dataplane
