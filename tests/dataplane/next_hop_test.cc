#include "dataplane/next_hop.h"

#include <gtest/gtest.h>

#include "dataplane/ipv4.h"

namespace slipstream::dataplane {
namespace {

constexpr std::uint32_t kAddress = 0x0a4d0002;
constexpr Instant kStart{1'000'000'000'000};
const MacAddress kMac = *parse_mac("02:00:00:00:00:02"), kOther = *parse_mac("02:00:00:00:00:03");

TEST(NextHop, IsTheNeighbourThatPacketsAreBroadcastToUntilItIsHeardOf) {
  NextHop hop(kAddress, false, std::nullopt);
  EXPECT_TRUE(hop.is_reachable());
  EXPECT_EQ(hop.mac(), kBroadcast);
  hop.on_datagram(kAddress ^ 1, kOther, kStart);
  EXPECT_EQ(hop.mac(), kBroadcast) << "another's datagram says nothing";
  hop.on_datagram(kAddress, kMac, kStart);
  EXPECT_EQ(hop.mac(), kMac);
  hop.on_arp(kAddress, kOther, kStart);
  EXPECT_EQ(hop.mac(), kOther) << "the newest counts";
  hop.on_arp(kAddress, kBroadcast, kStart);
  EXPECT_EQ(hop.mac(), kOther) << "a group's address is nobody's";
}

TEST(NextHop, IsAGatewayThatOnlyArpTellsOf) {
  NextHop hop(kAddress, true, std::nullopt);
  EXPECT_FALSE(hop.is_reachable()) << "no router forwards what is sent to all";
  hop.on_datagram(kAddress, kMac, kStart);
  EXPECT_FALSE(hop.is_reachable());
  hop.on_arp(kAddress, kMac, kStart);
  EXPECT_TRUE(hop.is_reachable());
  EXPECT_EQ(hop.mac(), kMac);
}

TEST(NextHop, IsAskedForUntilItAnswersAndAgainWhenItWasLongSilent) {
  NextHop hop(kAddress, false, std::nullopt);
  EXPECT_TRUE(hop.asks(kStart));
  EXPECT_FALSE(hop.asks(kStart)) << "not twice at once";
  EXPECT_TRUE(hop.asks(kStart + NextHop::kAskPeriod));
  const Instant heard = kStart + NextHop::kAskPeriod;
  hop.on_arp(kAddress, kMac, heard);
  EXPECT_FALSE(hop.asks(heard + (NextHop::kFresh - milliseconds(1))));
  EXPECT_TRUE(hop.asks(heard + NextHop::kFresh));
  EXPECT_EQ(hop.mac(), kMac) << "meanwhile the one that was known is used";
}

TEST(NextHop, KeepsAConfiguredAddress) {
  NextHop hop(kAddress, true, kMac);
  EXPECT_TRUE(hop.is_reachable());
  EXPECT_FALSE(hop.asks(kStart));
  hop.on_arp(kAddress, kOther, kStart);
  EXPECT_EQ(hop.mac(), kMac);
}

TEST(Ipv4Prefix, ContainsItsNetwork) {
  const auto prefix = parse_ipv4_prefix("10.77.1.1/23");
  ASSERT_TRUE(prefix);
  EXPECT_EQ(prefix->address, 0x0a4d0101u);
  EXPECT_TRUE(prefix->contains(*parse_ipv4("10.77.0.200")));
  EXPECT_FALSE(prefix->contains(*parse_ipv4("10.77.2.1")));
  EXPECT_TRUE(parse_ipv4_prefix("10.77.1.1")->contains(*parse_ipv4("192.0.2.1"))) << "no length: everybody is near";
  EXPECT_FALSE(parse_ipv4_prefix("10.77.1.1/32")->contains(*parse_ipv4("10.77.1.2")));
}

TEST(Ipv4Prefix, IsReadStrictly) {
  for (const char* text : {"", "10.0.0", "10.0.0.1/", "10.0.0.1/0", "10.0.0.1/33", "10.0.0.1/24x", "10.0.0.1/+24",
                           "10.0.0.1 /24", "/24", "::1/64"})
    EXPECT_FALSE(parse_ipv4_prefix(text)) << text;
}

}  // namespace
}  // namespace slipstream::dataplane
