#include "app/network.h"

#include <spdlog/spdlog.h>

#include "dataplane/dpdk_port.h"
#include "dataplane/eal.h"
#include "dataplane/fault_port.h"

namespace slipstream::app {

std::expected<Network, Error> Network::open(const Config& config) {
  dataplane::EalOptions eal;
  eal.file_prefix = config.runtime.file_prefix;
  eal.hugepages = config.runtime.hugepages == "on"    ? dataplane::Hugepages::kOn
                  : config.runtime.hugepages == "off" ? dataplane::Hugepages::kOff
                                                      : dataplane::Hugepages::kAuto;
  eal.memory_mb = config.runtime.memory_mb;
  std::vector<dataplane::DeviceConfig> devices;
  std::optional<FaultConfig> faults;
  for (const PortConfig& port : config.ports) {
    if (!port.vdev.empty()) eal.vdevs.push_back(port.vdev);
    if (!port.pci.empty()) eal.pci.push_back(port.pci);
    const std::string device = !port.vdev.empty()  ? port.vdev.substr(0, port.vdev.find(','))
                               : !port.pci.empty() ? port.pci
                                                   : port.mac;
    devices.push_back(
        {port.name, device, port.mtu, port.address, config.self().udp_port, config.runtime.idle != "spin"});
    if (port.faults) faults = port.faults;
  }
  const auto started = dataplane::start_eal(eal);
  if (!started) return std::unexpected(started.error());
  if (!started->warning.empty()) spdlog::warn("{}", started->warning);

  std::vector<dataplane::PeerConfig> peers;
  for (const NodeConfig& node : config.nodes)
    if (node.name != config.name && node.role != config.role)
      peers.push_back({node.number, node.address, node.udp_port, node.mac, node.via});
  auto port = dataplane::DpdkPort::open(devices, peers);
  if (!port) return std::unexpected(port.error());
  Network out;
  out.devices_ = port->get();
  out.wakes_ = (*port)->wakes() && !faults;  // A frame that is held back rings no bell when its time has come.
  out.port_ = std::move(*port);
  if (!faults) return out;
  spdlog::warn("faults are injected on received frames: loss {}, duplicate {}, reorder {}, corrupt {}, seed {}",
               faults->loss, faults->duplicate, faults->reorder, faults->corrupt, faults->seed);
  out.port_ = std::make_unique<dataplane::FaultPort>(
      std::move(out.port_),
      dataplane::Faults{faults->loss, faults->duplicate, faults->reorder, faults->corrupt, faults->seed});
  return out;
}

dataplane::IdleStrategy Network::prepare(const Config& config, FileDisk* disk, dataplane::Waker& waker) const {
  using Mode = dataplane::IdleStrategy::Mode;
  const Mode mode = config.runtime.idle == "spin" ? Mode::kSpin : wakes_ ? Mode::kWoken : Mode::kPolled;
  for (const int fd : devices_->wake_fds()) waker.watch(fd);
  if (disk && disk->wake_fd() >= 0) waker.watch(disk->wake_fd(), [disk](bool on) { return disk->tell(on); });
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  return dataplane::IdleStrategy(mode);
}

}  // namespace slipstream::app
