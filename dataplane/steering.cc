#include "dataplane/steering.h"

#include <netinet/in.h>
#include <rte_byteorder.h>
#include <rte_flow.h>

#include <algorithm>
#include <utility>

namespace slipstream::dataplane {
namespace {

// One rule's pattern, from Ethernet on.
class Pattern {
 public:
  explicit Pattern(const Endpoint& self, std::uint16_t type) {
    const rte_be16_t wanted = rte_cpu_to_be_16(type), all = 0xffff;
    if (self.vlan == 0) {
      ethernet_.hdr.ether_type = wanted, ethernet_mask_.hdr.ether_type = all;
      add(RTE_FLOW_ITEM_TYPE_ETH, &ethernet_, &ethernet_mask_);
      return;
    }
    vlan_.hdr.vlan_tci = rte_cpu_to_be_16(self.vlan), vlan_mask_.hdr.vlan_tci = rte_cpu_to_be_16(0x0fff);
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
  // To our queue. Null when the device refuses.
  rte_flow* create(std::uint16_t port) {
    const rte_flow_attr attributes{.ingress = 1};
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

  rte_flow_item_eth ethernet_{}, ethernet_mask_{};
  rte_flow_item_vlan vlan_{}, vlan_mask_{};
  rte_flow_item_ipv4 ip_{}, ip_mask_{};
  rte_flow_item_udp udp_{}, udp_mask_{};
  std::array<rte_flow_item, 5> items_{};  // What is not set ends it.
  std::size_t count_ = 0;
};
static_assert(RTE_FLOW_ITEM_TYPE_END == 0);

}  // namespace

// To leave isolation changes nothing, but says whether the driver knows of it.
bool Steering::is_known(std::uint16_t port) {
  rte_flow_error error{};
  return rte_flow_isolate(port, 0, &error) == 0;
}

bool Steering::install(std::uint16_t port, const Endpoint& self) {
  rules_ = {Pattern(self, kEthernetIpv4).to(self.address, IPPROTO_UDP).udp(self.udp_port).create(port),
            Pattern(self, kEthernetIpv4).to(self.address, IPPROTO_ICMP).create(port),
            Pattern(self, kEthernetArp).create(port)};
  const bool taken = std::ranges::find(rules_, nullptr) == rules_.end();
  if (!taken) remove(port);
  return taken;
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
