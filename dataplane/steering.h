#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "dataplane/packet.h"

struct rte_flow;

namespace slipstream::dataplane {

// Has a device take only what is for us, by rte_flow: IPv4 to our address that is UDP to our port or ICMP, and ARP, in
// our VLAN, or outside of any: untagged or with a priority. All else stays with the kernel where its driver shares the
// device, and is dropped elsewhere. Devices without it, or that refuse one of the rules, bring everything; whatever
// arrives is looked at in software either way (packet.h). The functions here may wait: none is for a device in use.
class Steering {
 public:
  static bool is_known(std::uint16_t port, std::string_view driver);  // Before it is configured: it may be isolated.

  // The rules, on a started device; none when one is refused.
  bool install(std::uint16_t port, const Endpoint& self);
  void remove(std::uint16_t port);  // Before it is stopped.
  // A stopped device, to be configured next: from then on only what rules ask for arrives.
  bool isolate(std::uint16_t port);

 private:
  std::array<rte_flow*, 6> rules_{};
};

}  // namespace slipstream::dataplane
