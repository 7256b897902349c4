#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/packet.h"

// What a host says of itself to its neighbours: a DPDK device has no kernel that would.
namespace slipstream::dataplane {

constexpr std::size_t kAnswerBytesMax = 9216;
constexpr std::size_t arp_packet_bytes(std::uint16_t vlan) { return ethernet_bytes(vlan) + 28; }

// The answer to a received packet, written to `memory` (at least kAnswerBytesMax): to an ARP request for our address
// (RFC 826), or to an ICMP echo request (RFC 792). Empty: it wants none, or is malformed.
std::span<const std::byte> answer(std::span<const std::byte> packet, const Endpoint& self, std::span<std::byte> memory);

// An ARP request to all for `address`, to the first arp_packet_bytes(self.vlan) of `packet`. For our own address it is
// an announcement (RFC 5227, 2.3): whoever knew us with another MAC address forgets it.
void write_arp_request(const Endpoint& self, std::uint32_t address, std::span<std::byte> packet);

// What a router says of a packet from us that its next link does not take: the size in bytes that it would (RFC 1191).
// Nothing: `packet` says no such thing, or is damaged. Anybody could say it: it is for messages only.
std::optional<std::uint32_t> size_that_passes(std::span<const std::byte> packet, const Endpoint& self);

struct Neighbour {
  std::uint32_t address = 0;
  MacAddress mac{};
};
// Who an ARP packet of this VLAN says that it comes from. Nothing: it is none, or says a group's address, or nobody's.
std::optional<Neighbour> arp_sender(std::span<const std::byte> packet, std::uint16_t vlan);

}  // namespace slipstream::dataplane
