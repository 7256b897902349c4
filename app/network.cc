#include "app/network.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/keys.h"
#include "dataplane/dpdk_port.h"
#include "dataplane/eal.h"
#include "dataplane/fault_port.h"
#include "dataplane/find_device.h"
#include "dataplane/routed_port.h"
#include "dataplane/udp_port.h"

namespace slipstream::app {

namespace {

using Opened = std::expected<std::unique_ptr<dataplane::NetworkPort>, Error>;

// Adds to `eal` what it has to make and allow for them.
std::expected<std::vector<dataplane::DeviceConfig>, Error> find_devices(const Config& config,
                                                                        dataplane::EalOptions& eal) {
  std::vector<dataplane::DeviceConfig> out;
  const dataplane::HostNetwork host;
  for (const PortConfig& port : config.ports) {
    if (port.kernel_udp) continue;
    dataplane::DeviceConfig device;
    device.name = port.name, device.mtu = port.mtu, device.address = port.address, device.gateway = port.gateway;
    device.vlan = port.vlan, device.udp_port = config.self().udp_port, device.may_sleep = config.runtime.idle != "spin";
    device.use_offloads = port.use_offloads;
    device.warn = [](const std::string& what) { spdlog::warn("{}", what); };
    const auto packet_bytes = static_cast<std::uint32_t>(dataplane::Device::packet_bytes_max(device));
    const auto found = dataplane::find_device({port.name, port.vdev, port.pci, port.mac, port.interface, packet_bytes},
                                              static_cast<unsigned>(out.size()), host);
    if (!found) return std::unexpected(found.error());
    device.device = found->device;
    out.push_back(device);
    eal.vdevs.insert(eal.vdevs.end(), found->vdevs.begin(), found->vdevs.end());
    for (const std::string& address : found->pci)
      if (std::ranges::find(eal.pci, address) == eal.pci.end()) eal.pci.push_back(address);
  }
  return out;
}

// Starts DPDK.
Opened open_devices(const Config& config, const std::vector<dataplane::PeerConfig>& peers) {
  dataplane::EalOptions eal;
  eal.file_prefix = config.runtime.file_prefix;
  eal.hugepages = config.runtime.hugepages == "on"    ? dataplane::Hugepages::kOn
                  : config.runtime.hugepages == "off" ? dataplane::Hugepages::kOff
                                                      : dataplane::Hugepages::kAuto;
  eal.memory_mb = config.runtime.memory_mb;
  auto devices = find_devices(config, eal);
  if (!devices) return std::unexpected(devices.error());
  const auto started = dataplane::start_eal(eal);
  if (!started) return std::unexpected(started.error());
  if (!started->warning.empty()) spdlog::warn("{}", started->warning);
  return dataplane::DpdkPort::open(*devices, peers);
}

Opened open_socket(const Config& config, const PortConfig& port, const std::vector<dataplane::PeerConfig>& peers) {
  auto opened = dataplane::UdpPort::open({port.name, port.bare_address(), config.self().udp_port, port.mtu,
                                          [](const std::string& what) { spdlog::warn("{}", what); }},
                                         peers);
  if (!opened) return std::unexpected(opened.error());
  if (!(*opened)->warning().empty()) spdlog::warn("{}", (*opened)->warning());
  return opened;
}

Opened open_ports(const Config& config) {
  std::vector<dataplane::PeerConfig> on_devices;
  std::map<std::string, std::vector<dataplane::PeerConfig>> on_sockets;
  for (const PortConfig& port : config.ports)
    if (port.kernel_udp) on_sockets[port.name];
  for (const NodeConfig& node : config.nodes) {
    if (node.name == config.name || node.role == config.role) continue;
    const auto socket = on_sockets.find(node.via);
    (socket == on_sockets.end() ? on_devices : socket->second)
        .push_back({node.number, node.address, node.udp_port, node.mac, node.via});
  }
  std::vector<dataplane::RoutedPort::Route> routes;
  const auto add = [&](Opened opened, const std::vector<dataplane::PeerConfig>& peers) -> std::expected<void, Error> {
    if (!opened) return std::unexpected(opened.error());
    dataplane::RoutedPort::Route route{std::move(*opened), {}};
    for (const dataplane::PeerConfig& peer : peers) route.peers.push_back(peer.id);
    routes.push_back(std::move(route));
    return {};
  };
  if (on_sockets.size() < config.ports.size())
    if (auto added = add(open_devices(config, on_devices), on_devices); !added) return std::unexpected(added.error());
  for (const PortConfig& port : config.ports)
    if (port.kernel_udp)
      if (auto added = add(open_socket(config, port, on_sockets[port.name]), on_sockets[port.name]); !added)
        return std::unexpected(added.error());
  if (routes.size() == 1) return std::move(routes.front().port);
  return std::make_unique<dataplane::RoutedPort>(std::move(routes));
}

}  // namespace

std::expected<void, Error> check_devices(const Config& config) {
  dataplane::EalOptions eal;
  const auto found = find_devices(config, eal);
  if (!found) return std::unexpected(found.error());
  return {};
}

std::expected<Network, Error> Network::open(const Config& config) {
  std::optional<SealKeys> keys;
  if (config.sealed) {
    auto loaded = load_keys(config);
    if (!loaded) return std::unexpected(loaded.error());
    keys = std::move(*loaded);
  }
  auto port = open_ports(config);
  if (!port) return std::unexpected(port.error());
  std::optional<FaultConfig> faults;
  for (const PortConfig& each : config.ports)
    if (each.faults) faults = each.faults;
  Network out;
  out.inner_ = port->get();
  // A frame that is held back rings no bell when its time has come.
  out.wakes_ = (*port)->wakes() && !(faults && faults->reorder > 0);
  out.port_ = std::move(*port);
  if (faults) out.add_faults(*faults);
  if (keys) out.sealed_ = std::make_unique<node::SealedPort>(*out.port_, std::move(keys->options), keys->peers);
  if (!keys) spdlog::warn("security = \"plaintext\": whoever is on the network can read and forge what is replicated");
  return out;
}

void Network::add_faults(const FaultConfig& faults) {
  spdlog::warn("faults are injected on received frames: loss {}, duplicate {}, reorder {}, corrupt {}, seed {}",
               faults.loss, faults.duplicate, faults.reorder, faults.corrupt, faults.seed);
  port_ = std::make_unique<dataplane::FaultPort>(
      std::move(port_), dataplane::Faults{faults.loss, faults.duplicate, faults.reorder, faults.corrupt, faults.seed});
}

void Network::describe(node::Snapshot& snapshot) const {
  snapshot.security = sealed_ ? "sealed" : "plaintext";
  snapshot.ports = inner_->views();
  if (!sealed_) return;
  snapshot.frames_sealed_once = sealed_->shared_frames();
  for (const auto& [verdict, count] : sealed_->refused().view()) snapshot.verdicts[verdict] += count;
  for (node::ReplicaView& replica : snapshot.primary.replicas)
    if (replica.state == "unreachable" && sealed_->disagrees(replica.id))
      replica.reason +=
          ": it answers, but no keys can be agreed on. Is public_key of both nodes what `slipstream keygen --show` "
          "prints "
          "on their hosts, and are names and numbers the same in both configurations?";
}

void Network::look(Instant now) {
  looked_ = now;
  for (const std::string& sentence : log_.look(inner_->views())) spdlog::warn("{}", sentence);
}

dataplane::IdleStrategy Network::prepare(const Config& config, FileDisk* disk, dataplane::Waker& waker) const {
  using Mode = dataplane::IdleStrategy::Mode;
  const Mode mode = config.runtime.idle == "spin" ? Mode::kSpin : wakes_ ? Mode::kWoken : Mode::kPolled;
  for (const int fd : inner_->wake_fds()) waker.watch(fd);
  if (disk && disk->wake_fd() >= 0) waker.watch(disk->wake_fd(), [disk](bool on) { return disk->tell(on); });
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  return dataplane::IdleStrategy(mode);
}

}  // namespace slipstream::app
