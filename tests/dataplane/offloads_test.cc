#include "dataplane/offloads.h"

#include <gtest/gtest.h>
#include <rte_ethdev.h>

namespace slipstream::dataplane {
namespace {

using Names = std::vector<std::string>;

constexpr std::uint64_t kChains = RTE_ETH_TX_OFFLOAD_MULTI_SEGS, kWrites = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM,
                        kChecks = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;

TEST(Offloads, AreTheDevices) {
  EXPECT_EQ(offered("net_af_xdp", 0, 0, 0).names(), Names{});
  EXPECT_EQ(offered("net_memif", kChains, 0, 0).names(), Names{"chained"});
  EXPECT_EQ(offered("net_tap", kChains | kWrites, kChecks, 0).names(),
            (Names{"chained", "write_checksum", "check_checksum"}));
  EXPECT_EQ(offered("net_any", 0, kChecks, 0).names(), Names{"check_checksum"});
}

TEST(Offloads, ChainsNeedTwoSegments) {
  EXPECT_TRUE(offered("net_any", kChains, 0, 2).chained);
  EXPECT_FALSE(offered("net_any", kChains, 0, 1).chained);
}

TEST(Offloads, DoNotCostADriversVectorPath) {
  EXPECT_EQ(offered("net_i40e", kChains | kWrites, kChecks, 8).names(), Names{"check_checksum"});
  EXPECT_EQ(offered("net_ice", kChains | kWrites, kChecks, 8).names(), (Names{"write_checksum", "check_checksum"}));
  EXPECT_EQ(offered("net_idpf", kChains | kWrites, kChecks, 8).names(), Names{});
}

TEST(Offloads, ChainNothingWhereABufferIsLetGoBeforeItIsSent) {
  EXPECT_FALSE(offered("net_dpaa2", kChains, 0, 0).chained);
}

TEST(Offloads, OnlyWhatIsUsedIsAskedFor) {
  EXPECT_EQ(tx_offloads({}), 0u);
  EXPECT_EQ(rx_offloads({}), 0u);
  const Offloads all = offered("net_tap", ~std::uint64_t{0}, ~std::uint64_t{0}, 0);
  EXPECT_EQ(tx_offloads(all), kChains | kWrites);
  EXPECT_EQ(rx_offloads(all), kChecks);
}

}  // namespace
}  // namespace slipstream::dataplane
