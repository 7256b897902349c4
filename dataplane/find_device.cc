#include "dataplane/find_device.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/nearest.h"
#include "dataplane/vdev.h"

namespace slipstream::dataplane {
namespace {

using Found = std::expected<FoundDevice, Error>;

Error error(const DeviceName& name, std::string what, std::string remedy) {
  return {ExitCode::kPort, std::move(what), "port \"" + name.port + "\"", std::move(remedy)};
}

// Drivers of NICs whose kernel driver stays bound, because DPDK works through it.
bool works_beside_kernel(const std::string& driver) {
  const std::array<std::string_view, 4> names{"mlx5_core", "mlx4_core", "mana", "uio_hv_generic"};
  return std::ranges::find(names, driver) != names.end();
}

bool is_bound_for_dpdk(const std::string& driver) {
  return driver == "vfio-pci" || driver == "igb_uio" || driver == "uio_pci_generic";
}

std::expected<void, Error> leave_default_route(const DeviceName& name, const std::vector<std::string>& interfaces,
                                               const HostNetwork& host) {
  if (interfaces.empty()) return {};
  const auto carrying = host.default_route_interfaces();
  if (!carrying)
    return std::unexpected(error(name, "which interface carries this host's default route cannot be told",
                                 "let the daemon read /proc/self/net/route"));
  for (const std::string& interface : interfaces)
    if (carrying->contains(interface))
      return std::unexpected(error(name, "the interface " + interface + " carries this host's default route",
                                   "a port takes no NIC that the host is reached through: name another (ip route, ip "
                                   "link), or use kernel_udp = true, which shares it"));
  return {};
}

Found by_vdev(const DeviceName& name, const HostNetwork& host) {
  const Vdev vdev(name.vdev);
  std::vector<std::string> interfaces;
  for (const char* key : {"iface", "rx_iface", "tx_iface", "rx_iface_in", "remote"})
    if (auto interface = vdev.option(key)) interfaces.push_back(*interface);
  if (auto free = leave_default_route(name, interfaces, host); !free) return std::unexpected(free.error());
  return FoundDevice{vdev.name(), {name.vdev}, {}};
}

Found by_pci(const DeviceName& name, const HostNetwork& host) {
  if (!host.has_pci(name.pci))
    return std::unexpected(error(name, "there is no PCI device " + name.pci,
                                 "dpdk-devbind.py --status lists addresses; write it as 0000:3b:00.0"));
  if (auto free = leave_default_route(name, host.interfaces_of_pci(name.pci), host); !free)
    return std::unexpected(free.error());
  const std::string driver = host.pci_driver(name.pci);
  if (is_bound_for_dpdk(driver) || works_beside_kernel(driver)) return FoundDevice{name.pci, {}, {name.pci}};
  return std::unexpected(error(name,
                               driver.empty()
                                   ? "no driver is bound to the PCI device " + name.pci
                                   : "the PCI device " + name.pci + " is bound to the kernel's driver " + driver,
                               "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci " + name.pci +
                                   "  (the kernel then no longer sees the NIC)"));
}

std::string list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out.empty() ? "none" : out;
}

Found by_interface(const DeviceName& name, const std::string& interface, unsigned number, const HostNetwork& host) {
  if (!host.has_interface(interface)) {
    const auto all = host.interfaces();
    const auto close = nearest(interface, all);
    return std::unexpected(error(name, "there is no interface " + interface + "; there are " + list(all),
                                 close ? "did you mean \"" + *close + "\"?"
                                       : "a NIC that is bound to vfio-pci has none: name it by pci or mac"));
  }
  if (auto free = leave_default_route(name, {interface}, host); !free) return std::unexpected(free.error());
  const std::string vdev = "net_af_packet" + std::to_string(100 + number);
  return FoundDevice{
      vdev,
      {vdev + ",iface=" + interface + "," + af_packet_frames(name.packet_bytes_max) + ",framecnt=2048,qpairs=1"},
      {}};
}

Found by_mac(const DeviceName& name, unsigned number, const HostNetwork& host) {
  const auto mac = parse_mac(name.mac);
  if (!mac)
    return std::unexpected(error(name, "\"" + name.mac + "\" is no MAC address", "write it as 02:00:00:00:00:01"));
  if (const auto interface = host.interface_of_mac(*mac)) {
    const std::string pci = host.pci_of(*interface);
    if (pci.empty() || !works_beside_kernel(host.pci_driver(pci))) return by_interface(name, *interface, number, host);
    auto found = by_pci({name.port, "", pci}, host);
    if (found) found->device = name.mac;  // One PCI device may have several interfaces.
    return found;
  }
  const auto candidates = host.pci_nics_bound_to("vfio-pci");
  if (candidates.empty())
    return std::unexpected(error(name,
                                 "no interface has the MAC address " + name.mac + ", and no NIC is bound to vfio-pci",
                                 "ip link lists addresses; bind the NIC, or name an interface's address"));
  return FoundDevice{name.mac, {}, candidates};
}

}  // namespace

Found find_device(const DeviceName& name, unsigned number, const HostNetwork& host) {
  if (!name.vdev.empty()) return by_vdev(name, host);
  if (!name.pci.empty()) return by_pci(name, host);
  if (!name.interface.empty()) return by_interface(name, name.interface, number, host);
  return by_mac(name, number, host);
}

}  // namespace slipstream::dataplane
