#include "dataplane/host_network.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace slipstream::dataplane {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> out;
  std::error_code problem;
  for (fs::directory_iterator it(directory, problem), end; !problem && it != end; it.increment(problem))
    out.push_back(it->path().filename().string());
  std::ranges::sort(out);
  return out;
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string link_name(const fs::path& link) {
  std::error_code problem;
  const fs::path target = fs::read_symlink(link, problem);
  return problem ? "" : target.filename().string();
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

constexpr unsigned kRouteUp = 0x1, kRouteReject = 0x200;

bool leads_somewhere(const std::string& flags) {
  const auto value = std::strtoul(flags.c_str(), nullptr, 16);
  return (value & kRouteUp) && !(value & kRouteReject);
}

bool is_zero(const std::string& digits) { return digits.find_first_not_of('0') == std::string::npos; }

// Iface Destination Gateway Flags RefCnt Use Metric Mask …
std::optional<std::string> default_ipv4(const std::vector<std::string>& route) {
  if (route.size() < 8 || !is_zero(route[1]) || !is_zero(route[7]) || !leads_somewhere(route[3])) return std::nullopt;
  return route[0];
}

// Destination, its prefix length, source, its prefix length, next hop, metric, references, use, flags, interface.
std::optional<std::string> default_ipv6(const std::vector<std::string>& route) {
  if (route.size() < 10 || !is_zero(route[0]) || !is_zero(route[1]) || !leads_somewhere(route[8])) return std::nullopt;
  return route[9];
}

}  // namespace

std::vector<std::string> HostNetwork::interfaces() const { return names_in(root_ / "sys/class/net"); }

bool HostNetwork::has_interface(const std::string& name) const {
  const auto all = interfaces();
  return std::ranges::find(all, name) != all.end();
}

void HostNetwork::add_with_lower(const std::string& interface, std::set<std::string>& out) const {
  if (!out.insert(interface).second) return;
  for (const std::string& name : names_in(root_ / "sys/class/net" / interface))
    if (name.starts_with("lower_")) add_with_lower(name.substr(6), out);
}

std::optional<std::set<std::string>> HostNetwork::default_route_interfaces() const {
  std::set<std::string> out;
  const auto add = [&](const char* file, auto interface_of) {
    std::ifstream in(root_ / "proc/self/net" / file);
    for (std::string line; std::getline(in, line);)
      if (const auto interface = interface_of(words(line))) add_with_lower(*interface, out);
    return in.eof();
  };
  const bool known = add("route", default_ipv4);
  add("ipv6_route", default_ipv6);  // Not there without IPv6.
  return known ? std::optional(out) : std::nullopt;
}

fs::path HostNetwork::pci(const std::string& address) const {
  const bool has_domain = std::ranges::count(address, ':') == 2;
  return root_ / "sys/bus/pci/devices" / (has_domain ? address : "0000:" + address);
}

bool HostNetwork::has_pci(const std::string& address) const {
  std::error_code problem;
  return fs::exists(pci(address), problem);
}

std::string HostNetwork::pci_driver(const std::string& address) const { return link_name(pci(address) / "driver"); }

std::vector<std::string> HostNetwork::interfaces_of_pci(const std::string& address) const {
  std::vector<std::string> out = names_in(pci(address) / "net");
  for (const std::string& below : names_in(pci(address)))  // virtio's are one device further down.
    if (below.starts_with("virtio"))
      for (const std::string& name : names_in(pci(address) / below / "net")) out.push_back(name);
  return out;
}

std::string HostNetwork::mac_of(const std::string& interface) const {
  return first_line(root_ / "sys/class/net" / interface / "address");
}

std::optional<std::string> HostNetwork::interface_of_mac(const MacAddress& mac) const {
  for (const std::string& name : interfaces())
    if (parse_mac(mac_of(name)) == mac) return name;
  return std::nullopt;
}

std::string HostNetwork::pci_of(const std::string& interface) const {
  for (const std::string& address : names_in(root_ / "sys/bus/pci/devices"))
    if (const auto all = interfaces_of_pci(address); std::ranges::find(all, interface) != all.end()) return address;
  return "";
}

std::vector<std::string> HostNetwork::pci_nics_bound_to(const std::string& driver) const {
  std::vector<std::string> out;
  for (const std::string& address : names_in(root_ / "sys/bus/pci/devices"))
    if (pci_driver(address) == driver && first_line(pci(address) / "class").starts_with("0x02")) out.push_back(address);
  return out;
}

}  // namespace slipstream::dataplane
