#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dataplane/packet.h"

namespace slipstream::dataplane {

// What the host's kernel says of its network interfaces (/proc/self/net, /sys): the network namespace of this process.
// Threading: any; nothing is kept. `root` is "/", or a test's tree.
class HostNetwork {
 public:
  explicit HostNetwork(std::filesystem::path root = "/") : root_(std::move(root)) {}

  std::vector<std::string> interfaces() const;
  bool has_interface(const std::string& name) const;
  // Those that default routes lead over (IPv4's of the main table, IPv6's of all), and those below them: a VLAN's, a
  // bond's, a bridge's. Nothing: the kernel does not say.
  std::optional<std::set<std::string>> default_route_interfaces() const;
  std::vector<std::string> interfaces_of_pci(const std::string& address) const;
  std::optional<std::string> interface_of_mac(const MacAddress& mac) const;
  std::string mac_of(const std::string& interface) const;    // As the kernel spells it; empty: it has none.
  std::string pci_of(const std::string& interface) const;    // Empty: it is on no PCI device.
  std::string pci_driver(const std::string& address) const;  // Empty: none is bound.
  bool has_pci(const std::string& address) const;
  std::vector<std::string> pci_nics_bound_to(const std::string& driver) const;

 private:
  std::filesystem::path pci(const std::string& address) const;
  void add_with_lower(const std::string& interface, std::set<std::string>& out) const;

  std::filesystem::path root_;
};

}  // namespace slipstream::dataplane
