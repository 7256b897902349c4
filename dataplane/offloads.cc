#include "dataplane/offloads.h"

#include <rte_ethdev.h>

#include <algorithm>
#include <array>

namespace slipstream::dataplane {
namespace {

// Drivers whose vectorised transmit function is not used together with an offload, which costs more than the offload
// saves (DPDK 22.11: i40e_set_tx_function_flag, ixgbe_set_tx_function, ICE_TX_NO_VECTOR_FLAGS,
// IAVF_TX_NO_VECTOR_FLAGS).
struct Costly {
  std::string_view driver;
  bool chained = false, checksum = false;
};
constexpr std::array<Costly, 6> kCostly{{{"net_i40e", true, true},
                                         {"net_ixgbe", true, true},
                                         {"net_ixgbe_vf", true, true},
                                         {"net_ice", true, false},
                                         {"net_ice_dcf", true, false},
                                         {"net_iavf", true, false}}};

}  // namespace

std::vector<std::string> Offloads::names() const {
  std::vector<std::string> out;
  if (chained) out.emplace_back("chained");
  if (writes_ip_checksum) out.emplace_back("write_checksum");
  if (checks_ip_checksum) out.emplace_back("check_checksum");
  if (steers) out.emplace_back("steering");
  return out;
}

Offloads offered(const rte_eth_dev_info& info) {
  return offered(info.driver_name ? info.driver_name : "", info.tx_offload_capa, info.rx_offload_capa,
                 info.tx_desc_lim.nb_seg_max);
}

Offloads offered(std::string_view driver, std::uint64_t tx, std::uint64_t rx, std::uint16_t segments_max) {
  const auto it = std::ranges::find(kCostly, driver, &Costly::driver);
  const Costly costly = it == kCostly.end() ? Costly{} : *it;
  Offloads out;
  out.chained = (tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0 && segments_max != 1 && !costly.chained;
  out.writes_ip_checksum = (tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0 && !costly.checksum;
  out.checks_ip_checksum = (rx & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
  return out;
}

std::uint64_t tx_offloads(const Offloads& used) {
  return (used.chained ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0) |
         (used.writes_ip_checksum ? RTE_ETH_TX_OFFLOAD_IPV4_CKSUM : 0);
}

std::uint64_t rx_offloads(const Offloads& used) { return used.checks_ip_checksum ? RTE_ETH_RX_OFFLOAD_IPV4_CKSUM : 0; }

}  // namespace slipstream::dataplane
