#include "dataplane/offloads.h"

#include <rte_ethdev.h>

#include <algorithm>
#include <array>

namespace slipstream::dataplane {
namespace {

// What drivers say they can and is better left alone (DPDK 22.11).
struct LeftAlone {
  std::string_view driver;
  bool chained = false, written = false, checked = false;
};
constexpr std::array<LeftAlone, 13> kLeftAlone{{
    // Their vectorised functions are not used together with it, which costs more than it saves
    // (i40e_set_tx_function_flag, ixgbe_set_tx_function, ICE_TX_NO_VECTOR_FLAGS, bnxt_transmit_function and the like).
    {"net_i40e", true, true},
    {"net_ixgbe", true, true},
    {"net_ixgbe_vf", true, true},
    {"net_txgbe", true, true},
    {"net_txgbe_vf", true, true},
    {"net_fm10k", true, true},
    {"net_bnxt", true, true},
    {"net_ice", true},
    {"net_ice_dcf", true},
    {"net_iavf", true},
    {"net_idpf", true, true, true},
    // They let go of a shared buffer when they hand it to the NIC, not when it was sent.
    {"net_dpaa", true},
    {"net_dpaa2", true},
}};

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
  const auto it = std::ranges::find(kLeftAlone, driver, &LeftAlone::driver);
  const LeftAlone left = it == kLeftAlone.end() ? LeftAlone{} : *it;
  Offloads out;
  out.chained = (tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0 && segments_max != 1 && !left.chained;
  out.writes_ip_checksum = (tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0 && !left.written;
  out.checks_ip_checksum = (rx & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0 && !left.checked;
  return out;
}

std::uint64_t tx_offloads(const Offloads& used) {
  return (used.chained ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0) |
         (used.writes_ip_checksum ? RTE_ETH_TX_OFFLOAD_IPV4_CKSUM : 0);
}

std::uint64_t rx_offloads(const Offloads& used) { return used.checks_ip_checksum ? RTE_ETH_RX_OFFLOAD_IPV4_CKSUM : 0; }

}  // namespace slipstream::dataplane
