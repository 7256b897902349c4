#include "dataplane/packet.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"

namespace slipstream::dataplane {
namespace {

constexpr std::uint16_t kVlanTag = 0x8100, kVlanMask = 0x0fff;
constexpr std::uint8_t kVersionAndLength = 0x45;  // IPv4, a header of 20 bytes.
constexpr std::uint8_t kUdp = 17;
constexpr std::uint16_t kDoNotFragment = 0x4000;
constexpr std::uint16_t kFragmentMask = 0x3fff;  // More fragments, or an offset.
constexpr std::size_t kChecksumAt = 10;

}  // namespace

// Four bytes at a time, in the machine's order: the sum's bytes come out in that order, too (RFC 1071, 2.B).
std::uint16_t internet_checksum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  for (; bytes.size() >= sizeof(std::uint32_t); bytes = bytes.subspan(sizeof(std::uint32_t))) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    sum += word;
  }
  std::uint32_t rest = 0;
  if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
  sum += rest;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  const auto folded = static_cast<std::uint16_t>(~sum);
  if constexpr (std::endian::native == std::endian::big) return folded;
  return static_cast<std::uint16_t>(folded << 8 | folded >> 8);
}

std::optional<MacAddress> parse_mac(const std::string& text) {
  MacAddress out{};
  if (text.size() != out.size() * 3 - 1) return std::nullopt;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit(text[i * 3]), low = digit(text[i * 3 + 1]);
    if (high < 0 || low < 0 || (i + 1 < out.size() && text[i * 3 + 2] != ':')) return std::nullopt;
    out[i] = static_cast<std::byte>(high << 4 | low);
  }
  return out;
}

void write_ethernet(std::span<std::byte> packet, const MacAddress& to, const Endpoint& from, std::uint16_t type) {
  ByteWriter out(packet);
  out.bytes(to), out.bytes(from.mac);
  if (from.vlan) out.be(kVlanTag), out.be(from.vlan);
  out.be(type);
}

std::optional<EthernetHeader> open_ethernet(std::span<const std::byte> packet, std::uint16_t vlan) {
  EthernetHeader out;
  ByteReader in(packet);
  in.bytes(6);  // To us or to all, or the NIC would not have let it in.
  const auto from = in.bytes(6);
  out.type = in.be<std::uint16_t>();
  std::uint16_t tag = 0;
  if (out.type == kVlanTag) tag = in.be<std::uint16_t>() & kVlanMask, out.type = in.be<std::uint16_t>();
  if (!in.ok() || tag != vlan) return std::nullopt;
  std::ranges::copy(from, out.from.begin());
  out.bytes = in.position();
  return out;
}

void write_headers(std::span<std::byte> packet, const Endpoint& from, const Endpoint& to, std::uint16_t identification,
                   std::size_t frame_bytes, bool device_writes_checksum) {
  const auto udp_bytes = static_cast<std::uint16_t>(kUdpBytes + frame_bytes);
  write_ethernet(packet, to.mac, from, kEthernetIpv4);
  const auto ip = packet.subspan(ethernet_bytes(from.vlan));
  ByteWriter out(ip);
  out.be(kVersionAndLength);
  out.be(std::uint8_t{0});  // Service
  out.be(static_cast<std::uint16_t>(kIpBytes + udp_bytes));
  out.be(identification);
  out.be(kDoNotFragment);
  out.be(std::uint8_t{64});  // Hops
  out.be(kUdp);
  out.be(std::uint16_t{0});  // Checksum: below.
  out.be(from.address);
  out.be(to.address);
  if (!device_writes_checksum) ByteWriter(ip.subspan(kChecksumAt)).be(internet_checksum(ip.first(kIpBytes)));
  out.be(from.udp_port);
  out.be(to.udp_port);
  out.be(udp_bytes);
  out.be(std::uint16_t{0});  // No checksum.
}

std::optional<Datagram> open_packet(std::span<const std::byte> packet, const Endpoint& to, bool checksum_is_good) {
  const auto ethernet = open_ethernet(packet, to.vlan);
  if (!ethernet || ethernet->type != kEthernetIpv4 || packet.size() <= ethernet->bytes + kIpUdpBytes)
    return std::nullopt;
  Datagram out;
  out.from_mac = ethernet->from;
  const auto ip = packet.subspan(ethernet->bytes);
  ByteReader in(ip);
  const bool ipv4 = in.be<std::uint8_t>() == kVersionAndLength;
  in.bytes(1);
  const std::size_t ip_bytes = in.be<std::uint16_t>();
  in.bytes(2);
  const bool whole = (in.be<std::uint16_t>() & kFragmentMask) == 0;
  in.bytes(1);
  const bool udp = in.be<std::uint8_t>() == kUdp;
  in.bytes(2);
  out.from_address = in.be<std::uint32_t>();
  const bool for_us = in.be<std::uint32_t>() == to.address;
  in.bytes(2);
  const bool port = in.be<std::uint16_t>() == to.udp_port;
  const std::size_t udp_bytes = in.be<std::uint16_t>();
  if (!ipv4 || !whole || !udp || !for_us || !port) return std::nullopt;
  if (ip_bytes > ip.size() || udp_bytes <= kUdpBytes || udp_bytes + kIpBytes != ip_bytes) return std::nullopt;
  if (!checksum_is_good && internet_checksum(ip.first(kIpBytes)) != 0) return std::nullopt;
  out.offset = ethernet->bytes + kIpUdpBytes;
  out.frame = packet.subspan(out.offset, udp_bytes - kUdpBytes);
  return out;
}

}  // namespace slipstream::dataplane
