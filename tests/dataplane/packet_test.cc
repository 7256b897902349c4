#include "dataplane/packet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "dataplane/neighbour.h"

namespace slipstream::dataplane {
namespace {

using Bytes = std::vector<std::byte>;

const Endpoint kUs{*parse_mac("02:00:00:00:00:01"), 0x0a4d0001, 7650};
const Endpoint kThem{*parse_mac("02:00:00:00:00:02"), 0x0a4d0002, 7650};

Bytes hex(const std::string& digits) {
  Bytes out;
  std::string pair;
  for (const char c : digits) {
    if (c == ' ') continue;
    pair += c;
    if (pair.size() < 2) continue;
    out.push_back(static_cast<std::byte>(std::stoul(pair, nullptr, 16)));
    pair.clear();
  }
  return out;
}

// As Linux sends it: who has 10.77.0.1? Tell 10.77.0.2.
Bytes arp_request() {
  return hex("ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a4d0002 000000000000 0a4d0001");
}

Bytes packet(std::size_t frame_bytes) {
  Bytes out(packet_header_bytes(0) + frame_bytes, std::byte{0x5a});
  write_headers(out, kThem, kUs, 77, frame_bytes);
  return out;
}

// `payload_bytes` behind an ICMP echo request's header, from them to us.
Bytes echo_request(std::size_t payload_bytes) {
  Bytes out = packet(payload_bytes);  // ICMP's header is as long as UDP's.
  out[kEthernetBytes + 9] = std::byte{1};
  std::fill_n(out.begin() + kEthernetBytes + 10, 2, std::byte{0});
  const auto ip = std::span(out).subspan(kEthernetBytes, 20), icmp = std::span(out).subspan(kEthernetBytes + 20);
  const std::array<std::byte, 8> head{std::byte{8},    std::byte{0},    std::byte{0}, std::byte{0},
                                      std::byte{0x12}, std::byte{0x34}, std::byte{0}, std::byte{1}};
  std::ranges::copy(head, icmp.begin());
  for (const auto& [part, at] : {std::pair{ip, 10}, std::pair{icmp, 2}}) {
    const std::uint16_t sum = internet_checksum(part);
    part[static_cast<std::size_t>(at)] = static_cast<std::byte>(sum >> 8);
    part[static_cast<std::size_t>(at) + 1] = static_cast<std::byte>(sum & 0xff);
  }
  return out;
}

Bytes answered(const Bytes& question) {
  std::array<std::byte, kAnswerBytesMax> memory;
  const auto reply = answer(question, kUs, memory);
  return {reply.begin(), reply.end()};
}

TEST(Packet, CarriesAFrame) {
  for (const std::size_t bytes : {1u, 111u, 1472u}) {
    Bytes out = packet(bytes);
    out.resize(out.size() + 10);  // Padding.
    const auto opened = open_packet(out, kUs);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->from_mac, kThem.mac);
    EXPECT_EQ(opened->from_address, kThem.address);
    EXPECT_EQ(opened->frame.size(), bytes);
  }
}

TEST(Packet, IsForOneAddressAndPort) {
  const Bytes out = packet(100);
  Endpoint other = kUs;
  other.address ^= 1;
  EXPECT_FALSE(open_packet(out, other));
  other = kUs;
  other.udp_port ^= 1;
  EXPECT_FALSE(open_packet(out, other));
}

TEST(Packet, IsNoneWhenItsHeadersAreDamaged) {
  const Bytes good = packet(100);
  for (std::size_t bit = 8 * 12; bit < 8 * 34; ++bit) {  // From the kind of packet to the IP header's end.
    Bytes damaged = good;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(open_packet(damaged, kUs)) << "bit " << bit;
  }
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(open_packet(std::span(good).first(size), kUs, size % 2 == 0)) << size;
}

TEST(Packet, LeavesItsChecksumToADeviceThatWritesIt) {
  Bytes out(packet_header_bytes(0) + 100, std::byte{0x5a});
  write_headers(out, kThem, kUs, 77, 100, true);
  EXPECT_FALSE(open_packet(out, kUs)) << "as long as it was not sent";
  EXPECT_TRUE(open_packet(out, kUs, true));
  const std::uint16_t sum = internet_checksum(std::span(out).subspan(kEthernetBytes, kIpBytes));
  out[kEthernetBytes + 10] = static_cast<std::byte>(sum >> 8), out[kEthernetBytes + 11] = static_cast<std::byte>(sum);
  EXPECT_EQ(out, packet(100)) << "what the device then sends";
}

// The packet as it is in a VLAN: the tag comes behind the addresses.
Bytes tagged(const Bytes& untagged, std::uint16_t tag) {
  Bytes out = untagged;
  const Bytes inserted{std::byte{0x81}, std::byte{0}, static_cast<std::byte>(tag >> 8), static_cast<std::byte>(tag)};
  out.insert(out.begin() + 12, inserted.begin(), inserted.end());
  return out;
}

Endpoint in_vlan(Endpoint endpoint, std::uint16_t vlan) {
  endpoint.vlan = vlan;
  return endpoint;
}

TEST(Packet, CarriesAVlansTag) {
  Bytes out(packet_header_bytes(42) + 100, std::byte{0x5a});
  write_headers(out, in_vlan(kThem, 42), kUs, 77, 100);
  EXPECT_EQ(out, tagged(packet(100), 42)) << "the same packet but for the tag";
  const auto opened = open_packet(out, in_vlan(kUs, 42));
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->from_mac, kThem.mac);
  EXPECT_EQ(opened->frame.size(), 100u);
  EXPECT_EQ(opened->offset, packet_header_bytes(42));
  for (std::size_t size = 0; size < out.size(); ++size)
    EXPECT_FALSE(open_packet(std::span(out).first(size), in_vlan(kUs, 42))) << size;
}

TEST(Packet, IsForOneVlan) {
  const Bytes plain = packet(100);
  EXPECT_FALSE(open_packet(plain, in_vlan(kUs, 42)));
  EXPECT_FALSE(open_packet(tagged(plain, 42), kUs));
  EXPECT_FALSE(open_packet(tagged(plain, 42), in_vlan(kUs, 43)));
  EXPECT_TRUE(open_packet(tagged(plain, 0xe000 | 42), in_vlan(kUs, 42))) << "whatever its priority";
  EXPECT_TRUE(open_packet(tagged(plain, 0xe000), kUs)) << "a priority alone is no VLAN";
  EXPECT_FALSE(open_packet(tagged(tagged(plain, 7), 42), in_vlan(kUs, 42))) << "nor is a VLAN within a VLAN ours";
}

TEST(InternetChecksum, MatchesRfc1071) {
  EXPECT_EQ(internet_checksum(hex("0001 f203 f4f5 f6f7")), 0x220d);
  EXPECT_EQ(internet_checksum(hex("01")), static_cast<std::uint16_t>(~0x0100));
}

TEST(InternetChecksum, IsTheSumOfPairsOfBytes) {
  std::uint32_t random = 1;
  for (std::size_t size = 0; size < 200; ++size) {
    Bytes bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>((random = random * 1664525 + 1013904223) >> 24);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    EXPECT_EQ(internet_checksum(bytes), static_cast<std::uint16_t>(~sum)) << size;
  }
  EXPECT_EQ(internet_checksum(Bytes(65'535, std::byte{0xff})), 0x00ff) << "no carry is lost";
}

TEST(Neighbour, AnswersAnArpRequestForItsAddress) {
  EXPECT_EQ(answered(arp_request()),
            hex("020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a4d0001 020000000002 0a4d0002"));
  Bytes other = arp_request();
  other.back() ^= std::byte{1};
  EXPECT_TRUE(answered(other).empty());
  Bytes reply = arp_request();
  reply[21] = std::byte{2};
  EXPECT_TRUE(answered(reply).empty());
}

TEST(Neighbour, LearnsWhoAsks) {
  const auto sender = arp_sender(arp_request(), 0);
  ASSERT_TRUE(sender);
  EXPECT_EQ(sender->address, kThem.address);
  EXPECT_EQ(sender->mac, kThem.mac);
  Bytes group = arp_request();
  group[22] |= std::byte{1};
  EXPECT_FALSE(arp_sender(group, 0));
  EXPECT_FALSE(arp_sender(packet(100), 0));
}

TEST(Neighbour, AnnouncesItself) {
  Bytes out(arp_packet_bytes(0));
  write_arp_request(kUs, kUs.address, out);
  EXPECT_EQ(out,
            hex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a4d0001 000000000000 0a4d0001"));
  EXPECT_TRUE(answered(out).empty()) << "nor answers itself";
}

TEST(Neighbour, AnswersAnEcho) {
  for (const std::size_t bytes : {0u, 1u, 56u, 1472u}) {
    const Bytes reply = answered(echo_request(bytes));
    ASSERT_EQ(reply.size(), packet_header_bytes(0) + bytes);
    EXPECT_TRUE(std::ranges::equal(std::span(reply).first(6), kThem.mac));
    EXPECT_TRUE(std::ranges::equal(std::span(reply).subspan(6, 6), kUs.mac));
    EXPECT_EQ(Bytes(reply.begin() + 26, reply.begin() + 34), hex("0a4d0001 0a4d0002"));
    EXPECT_EQ(internet_checksum(std::span(reply).subspan(kEthernetBytes, 20)), 0);
    EXPECT_EQ(internet_checksum(std::span(reply).subspan(kEthernetBytes + 20)), 0);
    EXPECT_EQ(Bytes(reply.begin() + 34, reply.begin() + 36), hex("0000"));
    EXPECT_EQ(Bytes(reply.begin() + 38, reply.begin() + 42), hex("1234 0001"));
    EXPECT_TRUE(std::all_of(reply.begin() + 42, reply.end(), [](std::byte b) { return b == std::byte{0x5a}; }));
  }
}

// A router's word that a packet from us of `size` bytes would have passed, behind an IP header of the packet that did
// not.
Bytes fragmentation_needed(std::uint16_t size, std::uint32_t source) {
  Bytes out = echo_request(20);
  const auto icmp = std::span(out).subspan(kEthernetBytes + 20);
  Bytes lost(packet_header_bytes(0) + 1);
  Endpoint from = kUs;
  from.address = source;
  write_headers(lost, from, kThem, 1, 1);
  const std::array<std::byte, 8> head{
      std::byte{3}, std::byte{4}, {}, {}, {}, {}, static_cast<std::byte>(size >> 8), static_cast<std::byte>(size)};
  std::ranges::copy(head, icmp.begin());
  std::ranges::copy(std::span(lost).subspan(kEthernetBytes, 20), icmp.begin() + 8);
  const std::uint16_t sum = internet_checksum(icmp);
  icmp[2] = static_cast<std::byte>(sum >> 8), icmp[3] = static_cast<std::byte>(sum & 0xff);
  return out;
}

TEST(Neighbour, ARouterSaysWhatPasses) {
  const Bytes message = fragmentation_needed(1400, kUs.address);
  EXPECT_EQ(size_that_passes(message, kUs), 1400u);
  EXPECT_FALSE(size_that_passes(fragmentation_needed(1400, kThem.address), kUs)) << "of another's packet";
  EXPECT_FALSE(size_that_passes(echo_request(56), kUs));
  EXPECT_TRUE(answered(message).empty());
  for (std::size_t size = 0; size < message.size(); ++size)
    EXPECT_FALSE(size_that_passes(std::span(message).first(size), kUs)) << size;
  for (std::size_t bit = 8 * kEthernetBytes; bit < 8 * message.size(); ++bit) {
    Bytes damaged = message;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(size_that_passes(damaged, kUs)) << "bit " << bit;
  }
}

TEST(Neighbour, AnswersWithinItsVlanOnly) {
  std::array<std::byte, kAnswerBytesMax> memory;
  for (const Bytes& question : {arp_request(), echo_request(56)}) {
    const auto reply = answer(tagged(question, 42), in_vlan(kUs, 42), memory);
    EXPECT_EQ(Bytes(reply.begin(), reply.end()), tagged(answered(question), 42));
    EXPECT_TRUE(answer(question, in_vlan(kUs, 42), memory).empty());
    EXPECT_TRUE(answer(tagged(question, 43), in_vlan(kUs, 42), memory).empty());
    EXPECT_TRUE(answered(tagged(question, 42)).empty());
  }
  EXPECT_TRUE(arp_sender(tagged(arp_request(), 42), 42));
  EXPECT_FALSE(arp_sender(tagged(arp_request(), 42), 0));
  EXPECT_FALSE(arp_sender(arp_request(), 42));
}

TEST(Neighbour, AsksForAnother) {
  Bytes out(arp_packet_bytes(0));
  write_arp_request(kUs, kThem.address, out);
  EXPECT_EQ(out,
            hex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a4d0001 000000000000 0a4d0002"));
  Bytes in_42(arp_packet_bytes(42));
  write_arp_request(in_vlan(kUs, 42), kThem.address, in_42);
  EXPECT_EQ(in_42, tagged(out, 42));
}

TEST(Neighbour, AnswersNothingThatIsMalformed) {
  for (const Bytes& good : {arp_request(), echo_request(56)})
    for (std::size_t size = 0; size < good.size(); ++size)
      EXPECT_TRUE(answered(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))).empty()) << size;
  const Bytes good = echo_request(56);
  for (std::size_t bit = 8 * 14; bit < 8 * good.size(); ++bit) {
    Bytes damaged = good;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_TRUE(answered(damaged).empty()) << "bit " << bit;
  }
  EXPECT_TRUE(answered(packet(100)).empty()) << "a frame is no question";
}

}  // namespace
}  // namespace slipstream::dataplane
