#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "node/io.h"
#include "node/snapshot.h"

namespace slipstream::dataplane {

struct PeerConfig {
  NodeId id;
  std::string address;
  std::uint16_t udp_port = 7650;
  std::string mac;  // Empty: broadcast until learnt. DPDK devices only.
  std::string via;  // A port's name.
};

// A port to the network, for a loop that sleeps.
class NetworkPort : public node::Port {
 public:
  virtual std::vector<int> wake_fds() const = 0;          // Readable when there may be something to receive.
  virtual bool wakes() const = 0;                         // Those are all it takes.
  virtual bool is_restless() const = 0;                   // Wants to be called again at once, whatever arrives.
  virtual std::vector<node::PortView> views() const = 0;  // What became of the packets, port by port.
};

}  // namespace slipstream::dataplane
