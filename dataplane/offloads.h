#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

struct rte_eth_dev_info;

namespace slipstream::dataplane {

// What a device does for us; what it does not, software does.
struct Offloads {
  bool chained = false;  // Sends a packet whose parts lie in several buffers. Without: it is copied into one.
  bool writes_ip_checksum = false;  // Of IPv4's header, when sending.
  bool checks_ip_checksum = false;  // Says of a received packet whether it is right.
  bool steers = false;              // Takes only what flow rules ask for (steering.h). Known when it has taken them.

  std::vector<std::string> names() const;  // "chained", "write_checksum", "check_checksum", "steering"
};

// What a device offers of it, by its capabilities, and what is not better left alone (steering apart).
Offloads offered(const rte_eth_dev_info& info);

// The same by driver and capabilities (RTE_ETH_TX_OFFLOAD_* and RTE_ETH_RX_OFFLOAD_*), `segments_max` of a packet (0:
// not said).
Offloads offered(std::string_view driver, std::uint64_t tx, std::uint64_t rx, std::uint16_t segments_max);

// To be asked for in rte_eth_conf.
std::uint64_t tx_offloads(const Offloads& used);
std::uint64_t rx_offloads(const Offloads& used);

}  // namespace slipstream::dataplane
