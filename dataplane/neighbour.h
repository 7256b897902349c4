#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/packet.h"

// What a host says of itself to its neighbours: a DPDK device has no kernel that would.
namespace slipstream::dataplane {

constexpr std::size_t kAnswerBytesMax = 9216;
constexpr std::size_t kAnnouncementBytes = 42;

// The answer to a received packet, written to `memory` (at least kAnswerBytesMax): to an ARP request for our address
// (RFC 826), or to an ICMP echo request (RFC 792). Empty: it wants none, or is malformed.
std::span<const std::byte> answer(std::span<const std::byte> packet, const Endpoint& self, std::span<std::byte> memory);

// An ARP request for our own address (RFC 5227, 2.3): whoever knew us with another MAC address forgets it. To the first
// kAnnouncementBytes of `packet`.
void write_announcement(const Endpoint& self, std::span<std::byte> packet);

struct Neighbour {
  std::uint32_t address = 0;
  MacAddress mac{};
};
// Who an ARP packet says that it comes from. Nothing: it is none, or says a group's address, or nobody's.
std::optional<Neighbour> arp_sender(std::span<const std::byte> packet);

}  // namespace slipstream::dataplane
