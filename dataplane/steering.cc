#include "dataplane/steering.h"

#include <netinet/in.h>
#include <rte_byteorder.h>
#include <rte_flow.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace slipstream::dataplane {
namespace {

// One rule's pattern, from Ethernet on.
class Pattern {
 public:
  // With a tag of this VLAN; 0: of none, which gives a priority only. Nothing: without a tag.
  Pattern(std::optional<std::uint16_t> tag, std::uint16_t type) : is_tagged_(tag) {
    const rte_be16_t wanted = rte_cpu_to_be_16(type), all = 0xffff;
    if (!tag) {
      ethernet_.hdr.ether_type = wanted, ethernet_mask_.hdr.ether_type = all;
      add(RTE_FLOW_ITEM_TYPE_ETH, &ethernet_, &ethernet_mask_);
      return;
    }
    vlan_.hdr.vlan_tci = rte_cpu_to_be_16(*tag), vlan_mask_.hdr.vlan_tci = rte_cpu_to_be_16(0x0fff);
    vlan_.hdr.eth_proto = wanted, vlan_mask_.hdr.eth_proto = all;
    add(RTE_FLOW_ITEM_TYPE_ETH, nullptr, nullptr);
    add(RTE_FLOW_ITEM_TYPE_VLAN, &vlan_, &vlan_mask_);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  Pattern& to(std::uint32_t address, std::uint8_t protocol) {
    ip_.hdr.dst_addr = rte_cpu_to_be_32(address), ip_mask_.hdr.dst_addr = 0xffffffff;
    ip_.hdr.next_proto_id = protocol, ip_mask_.hdr.next_proto_id = 0xff;
    return add(RTE_FLOW_ITEM_TYPE_IPV4, &ip_, &ip_mask_);
  }
  Pattern& udp(std::uint16_t port) {
    udp_.hdr.dst_port = rte_cpu_to_be_16(port), udp_mask_.hdr.dst_port = 0xffff;
    return add(RTE_FLOW_ITEM_TYPE_UDP, &udp_, &udp_mask_);
  }
  // To our queue. Null when the device refuses. In tap's priorities (tc's) all have a tag, or none.
  rte_flow* create(std::uint16_t port) {
    const rte_flow_attr attributes{.priority = is_tagged_ ? 1u : 0u, .ingress = 1};
    const rte_flow_action_queue queue{.index = 0};
    const std::array<rte_flow_action, 2> actions{
        {{RTE_FLOW_ACTION_TYPE_QUEUE, &queue}, {RTE_FLOW_ACTION_TYPE_END, nullptr}}};
    rte_flow_error error{};
    return rte_flow_create(port, &attributes, items_.data(), actions.data(), &error);
  }

 private:
  Pattern& add(rte_flow_item_type type, const void* spec, const void* mask) {
    items_[count_++] = {.type = type, .spec = spec, .last = nullptr, .mask = mask};
    return *this;
  }

  bool is_tagged_;
  rte_flow_item_eth ethernet_{}, ethernet_mask_{};
  rte_flow_item_vlan vlan_{}, vlan_mask_{};
  rte_flow_item_ipv4 ip_{}, ip_mask_{};
  rte_flow_item_udp udp_{}, udp_mask_{};
  std::array<rte_flow_item, 5> items_{};  // What is not set ends it.
  std::size_t count_ = 0;
};
static_assert(RTE_FLOW_ITEM_TYPE_END == 0);

}  // namespace

// To leave isolation changes nothing, but says whether the driver knows of it. Not so bonding's, which then wants its
// members to know it too.
bool Steering::is_known(std::uint16_t port, std::string_view driver) {
  rte_flow_error error{};
  return driver != "net_bonding" && rte_flow_isolate(port, 0, &error) == 0;
}

bool Steering::install(std::uint16_t port, const Endpoint& self) {
  using Tags = std::vector<std::optional<std::uint16_t>>;
  std::size_t count = 0;
  for (const auto& tag : self.vlan ? Tags{self.vlan} : Tags{std::nullopt, 0}) {
    rules_[count++] = Pattern(tag, kEthernetIpv4).to(self.address, IPPROTO_UDP).udp(self.udp_port).create(port);
    rules_[count++] = Pattern(tag, kEthernetIpv4).to(self.address, IPPROTO_ICMP).create(port);
    rules_[count++] = Pattern(tag, kEthernetArp).create(port);
  }
  const auto taken = std::span(rules_).first(count);
  if (std::ranges::find(taken, nullptr) == taken.end()) return true;
  remove(port);
  return false;
}

void Steering::remove(std::uint16_t port) {
  rte_flow_error error{};
  for (rte_flow*& rule : rules_)
    if (rte_flow* const old = std::exchange(rule, nullptr)) (void)rte_flow_destroy(port, old, &error);
}

bool Steering::isolate(std::uint16_t port) {
  rte_flow_error error{};
  return rte_flow_isolate(port, 1, &error) == 0;
}

}  // namespace slipstream::dataplane
