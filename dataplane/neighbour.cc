#include "dataplane/neighbour.h"

#include <algorithm>

#include "base/bytes.h"

namespace slipstream::dataplane {
namespace {

constexpr std::uint16_t kArp = 0x0806, kIpv4 = 0x0800;
constexpr std::uint16_t kEthernet = 1, kRequest = 1, kReply = 2;
constexpr std::uint8_t kIcmp = 1, kEchoRequest = 8;
constexpr std::size_t kArpBytes = 28, kIpBytes = 20, kIcmpBytes = 8;

struct Arp {
  std::uint16_t operation = 0;
  MacAddress from_mac{};
  std::uint32_t from = 0, about = 0;
};

std::optional<Arp> open_arp(std::span<const std::byte> packet) {
  if (packet.size() < kEthernetBytes + kArpBytes) return std::nullopt;
  ByteReader in(packet.subspan(12));
  const bool arp = in.be<std::uint16_t>() == kArp && in.be<std::uint16_t>() == kEthernet &&
                   in.be<std::uint16_t>() == kIpv4 && in.be<std::uint8_t>() == 6 && in.be<std::uint8_t>() == 4;
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
  ByteWriter out(packet);
  out.bytes(to), out.bytes(self.mac), out.be(kArp);
  out.be(kEthernet), out.be(kIpv4), out.be(std::uint8_t{6}), out.be(std::uint8_t{4}), out.be(operation);
  out.bytes(self.mac), out.be(self.address);
  out.bytes(about_mac), out.be(about);
}

// The ICMP message of a whole, valid echo request to us.
std::span<const std::byte> echo_request(std::span<const std::byte> packet, const Endpoint& self) {
  if (packet.size() < kEthernetBytes + kIpBytes + kIcmpBytes) return {};
  ByteReader in(packet.subspan(12));
  const bool ipv4 = in.be<std::uint16_t>() == kIpv4 && in.be<std::uint8_t>() == 0x45;
  in.bytes(1);
  const std::size_t ip_bytes = in.be<std::uint16_t>();
  in.bytes(2);
  const bool whole = (in.be<std::uint16_t>() & 0x3fff) == 0;
  in.bytes(1);
  const bool icmp = in.be<std::uint8_t>() == kIcmp;
  in.bytes(6);
  const bool for_us = in.be<std::uint32_t>() == self.address;
  if (!ipv4 || !whole || !icmp || !for_us || ip_bytes < kIpBytes + kIcmpBytes ||
      kEthernetBytes + ip_bytes > packet.size() || kEthernetBytes + ip_bytes > kAnswerBytesMax)
    return {};
  if (internet_checksum(packet.subspan(kEthernetBytes, kIpBytes)) != 0) return {};
  const auto message = packet.subspan(kEthernetBytes + kIpBytes, ip_bytes - kIpBytes);
  const bool request = message[0] == std::byte{kEchoRequest} && message[1] == std::byte{0};
  return request && internet_checksum(message) == 0 ? message : std::span<const std::byte>{};
}

std::span<const std::byte> echo_reply(std::span<const std::byte> packet, std::span<const std::byte> message,
                                      const Endpoint& self, std::span<std::byte> memory) {
  const auto reply = memory.first(kEthernetBytes + kIpBytes + message.size());
  std::ranges::copy(packet.first(reply.size()), reply.begin());
  ByteReader from(packet.subspan(6));
  const auto mac = from.bytes(6);
  const auto address = packet.subspan(kEthernetBytes + 12, 4);
  ByteWriter ethernet(reply);
  ethernet.bytes(mac), ethernet.bytes(self.mac);
  const auto ip = reply.subspan(kEthernetBytes, kIpBytes);
  ByteWriter(ip.subspan(8)).be(std::uint8_t{64});
  ByteWriter ends(ip.subspan(10));
  ends.be(std::uint16_t{0}), ends.be(self.address), ends.bytes(address);
  ByteWriter(ip.subspan(10)).be(internet_checksum(ip));
  const auto icmp = reply.subspan(kEthernetBytes + kIpBytes);
  ByteWriter(icmp).be(std::uint32_t{0});  // Echo reply, code 0, no checksum yet.
  ByteWriter(icmp.subspan(2)).be(internet_checksum(icmp));
  return reply;
}

}  // namespace

std::span<const std::byte> answer(std::span<const std::byte> packet, const Endpoint& self,
                                  std::span<std::byte> memory) {
  if (const auto arp = open_arp(packet)) {
    if (arp->operation != kRequest || arp->about != self.address || arp->from == self.address) return {};
    const auto reply = memory.first(kEthernetBytes + kArpBytes);
    write_arp(reply, kReply, self, arp->from_mac, arp->from_mac, arp->from);
    return reply;
  }
  const auto message = echo_request(packet, self);
  return message.empty() ? std::span<const std::byte>{} : echo_reply(packet, message, self, memory);
}

void write_announcement(const Endpoint& self, std::span<std::byte> packet) {
  write_arp(packet, kRequest, self, kBroadcast, MacAddress{}, self.address);
}

std::optional<Neighbour> arp_sender(std::span<const std::byte> packet) {
  const auto arp = open_arp(packet);
  if (!arp || arp->from == 0 || (arp->from_mac.front() & std::byte{1}) != std::byte{0}) return std::nullopt;
  return Neighbour{arp->from, arp->from_mac};
}

}  // namespace slipstream::dataplane
