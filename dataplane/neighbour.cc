#include "dataplane/neighbour.h"

#include <algorithm>

#include "base/bytes.h"

namespace slipstream::dataplane {
namespace {

constexpr std::uint16_t kEthernet = 1, kRequest = 1, kReply = 2;
constexpr std::uint8_t kIcmp = 1, kEchoRequest = 8, kUnreachable = 3, kFragmentationNeeded = 4;
constexpr std::size_t kArpBytes = 28, kIcmpBytes = 8;

struct Arp {
  std::uint16_t operation = 0;
  MacAddress from_mac{};
  std::uint32_t from = 0, about = 0;
};

std::optional<Arp> open_arp(std::span<const std::byte> packet, std::uint16_t vlan) {
  const auto ethernet = open_ethernet(packet, vlan);
  if (!ethernet || ethernet->type != kEthernetArp || packet.size() < ethernet->bytes + kArpBytes) return std::nullopt;
  ByteReader in(packet.subspan(ethernet->bytes));
  const bool arp = in.be<std::uint16_t>() == kEthernet && in.be<std::uint16_t>() == kEthernetIpv4 &&
                   in.be<std::uint8_t>() == 6 && in.be<std::uint8_t>() == 4;
  if (!arp) return std::nullopt;
  Arp out;
  out.operation = in.be<std::uint16_t>();
  std::ranges::copy(in.bytes(6), out.from_mac.begin());
  out.from = in.be<std::uint32_t>();
  in.bytes(6);
  out.about = in.be<std::uint32_t>();
  return out;
}

void write_arp(std::span<std::byte> packet, std::uint16_t operation, const Endpoint& self, const MacAddress& to,
               const MacAddress& about_mac, std::uint32_t about) {
  write_ethernet(packet, to, self, kEthernetArp);
  ByteWriter out(packet.subspan(ethernet_bytes(self.vlan)));
  out.be(kEthernet), out.be(kEthernetIpv4), out.be(std::uint8_t{6}), out.be(std::uint8_t{4}), out.be(operation);
  out.bytes(self.mac), out.be(self.address);
  out.bytes(about_mac), out.be(about);
}

struct Icmp {
  MacAddress from_mac{};
  std::span<const std::byte> ip, message;  // The header, what follows.

  bool is(std::uint8_t type, std::uint8_t code) const {
    return message[0] == std::byte{type} && message[1] == std::byte{code};
  }
};

// A whole, valid ICMP message to us.
std::optional<Icmp> open_icmp(std::span<const std::byte> packet, const Endpoint& self) {
  const auto ethernet = open_ethernet(packet, self.vlan);
  if (!ethernet || ethernet->type != kEthernetIpv4 || packet.size() < ethernet->bytes + kIpBytes + kIcmpBytes)
    return std::nullopt;
  const auto whole_ip = packet.subspan(ethernet->bytes);
  ByteReader in(whole_ip);
  const bool ipv4 = in.be<std::uint8_t>() == 0x45;
  in.bytes(1);
  const std::size_t ip_bytes = in.be<std::uint16_t>();
  in.bytes(2);
  const bool whole = (in.be<std::uint16_t>() & 0x3fff) == 0;
  in.bytes(1);
  const bool icmp = in.be<std::uint8_t>() == kIcmp;
  in.bytes(6);
  const bool for_us = in.be<std::uint32_t>() == self.address;
  if (!ipv4 || !whole || !icmp || !for_us || ip_bytes < kIpBytes + kIcmpBytes || ip_bytes > whole_ip.size() ||
      ethernet_bytes(self.vlan) + ip_bytes > kAnswerBytesMax)
    return std::nullopt;
  const Icmp out{ethernet->from, whole_ip.first(kIpBytes), whole_ip.subspan(kIpBytes, ip_bytes - kIpBytes)};
  if (internet_checksum(out.ip) != 0 || internet_checksum(out.message) != 0) return std::nullopt;
  return out;
}

std::span<const std::byte> echo_reply(const Icmp& request, const Endpoint& self, std::span<std::byte> memory) {
  write_ethernet(memory, request.from_mac, self, kEthernetIpv4);
  const auto ip = memory.subspan(ethernet_bytes(self.vlan), kIpBytes);
  std::ranges::copy(request.ip, ip.begin());
  ByteWriter(ip.subspan(8)).be(std::uint8_t{64});
  ByteWriter ends(ip.subspan(10));
  ends.be(std::uint16_t{0}), ends.be(self.address), ends.bytes(request.ip.subspan(12, 4));
  ByteWriter(ip.subspan(10)).be(internet_checksum(ip));
  const auto icmp = memory.subspan(ethernet_bytes(self.vlan) + kIpBytes, request.message.size());
  std::ranges::copy(request.message, icmp.begin());
  ByteWriter(icmp).be(std::uint32_t{0});  // Echo reply, code 0, no checksum yet.
  ByteWriter(icmp.subspan(2)).be(internet_checksum(icmp));
  return memory.first(ethernet_bytes(self.vlan) + kIpBytes + icmp.size());
}

}  // namespace

std::span<const std::byte> answer(std::span<const std::byte> packet, const Endpoint& self,
                                  std::span<std::byte> memory) {
  if (const auto arp = open_arp(packet, self.vlan)) {
    if (arp->operation != kRequest || arp->about != self.address || arp->from == self.address) return {};
    const auto reply = memory.first(arp_packet_bytes(self.vlan));
    write_arp(reply, kReply, self, arp->from_mac, arp->from_mac, arp->from);
    return reply;
  }
  const auto request = open_icmp(packet, self);
  return request && request->is(kEchoRequest, 0) ? echo_reply(*request, self, memory) : std::span<const std::byte>{};
}

std::optional<std::uint32_t> size_that_passes(std::span<const std::byte> packet, const Endpoint& self) {
  const auto icmp = open_icmp(packet, self);
  if (!icmp || !icmp->is(kUnreachable, kFragmentationNeeded) || icmp->message.size() < kIcmpBytes + kIpBytes)
    return std::nullopt;
  ByteReader in(icmp->message.subspan(6));
  const std::uint32_t size = in.be<std::uint16_t>();
  in.bytes(12);  // Of the packet that did not pass.
  return in.be<std::uint32_t>() == self.address ? std::optional(size) : std::nullopt;
}

void write_arp_request(const Endpoint& self, std::uint32_t address, std::span<std::byte> packet) {
  write_arp(packet, kRequest, self, kBroadcast, MacAddress{}, address);
}

std::optional<Neighbour> arp_sender(std::span<const std::byte> packet, std::uint16_t vlan) {
  const auto arp = open_arp(packet, vlan);
  if (!arp || arp->from == 0 || (arp->from_mac.front() & std::byte{1}) != std::byte{0}) return std::nullopt;
  return Neighbour{arp->from, arp->from_mac};
}

}  // namespace slipstream::dataplane
