#include "app/network.h"

#include <spdlog/spdlog.h>

#include "dataplane/dpdk_port.h"
#include "dataplane/eal.h"
#include "dataplane/fault_port.h"

namespace slipstream::app {

std::expected<std::unique_ptr<node::Port>, Error> open_network(const Config& config) {
  dataplane::EalOptions eal;
  eal.file_prefix = config.runtime.file_prefix;
  eal.hugepages = config.runtime.hugepages == "on" ? dataplane::Hugepages::kOn : config.runtime.hugepages == "off" ? dataplane::Hugepages::kOff : dataplane::Hugepages::kAuto;
  eal.memory_mb = config.runtime.memory_mb;
  std::vector<dataplane::DeviceConfig> devices;
  std::optional<FaultConfig> faults;
  for (const PortConfig& port : config.ports) {
    if (!port.vdev.empty()) eal.vdevs.push_back(port.vdev);
    if (!port.pci.empty()) eal.pci.push_back(port.pci);
    const std::string device = !port.vdev.empty() ? port.vdev.substr(0, port.vdev.find(',')) : !port.pci.empty() ? port.pci : port.mac;
    const bool connects = port.vdev.starts_with("net_memif") && port.vdev.find("role=server") == std::string::npos;
    devices.push_back({port.name, device, port.mtu, port.address, config.self().udp_port, connects});
    if (port.faults) faults = port.faults;
  }
  const auto started = dataplane::start_eal(eal);
  if (!started) return std::unexpected(started.error());
  if (!started->warning.empty()) spdlog::warn("{}", started->warning);

  std::vector<dataplane::PeerConfig> peers;
  for (const NodeConfig& node : config.nodes)
    if (node.name != config.name && node.role != config.role) peers.push_back({node.number, node.address, node.udp_port, node.mac, node.via});
  auto port = dataplane::DpdkPort::open(devices, peers);
  if (!port) return std::unexpected(port.error());
  if (!faults) return std::move(*port);
  spdlog::warn("faults are injected on received frames: loss {}, duplicate {}, reorder {}, corrupt {}, seed {}", faults->loss, faults->duplicate, faults->reorder, faults->corrupt, faults->seed);
  return std::make_unique<dataplane::FaultPort>(std::move(*port), dataplane::Faults{faults->loss, faults->duplicate, faults->reorder, faults->corrupt, faults->seed});
}

}  // namespace slipstream::app
