#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "node/io.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

namespace slipstream::sim {

using Wire = std::vector<std::byte>;

// How one direction between two nodes behaves at the moment.
struct Link {
  double loss = 0;
  double burst = 0;  // That a burst of losses begins with this frame.
  double duplicate = 0;
  double reorder = 0;
  double corruption = 0;
  double truncation = 0;
  double replay = 0;
  Duration delay = microseconds(20);
  Duration jitter = microseconds(10);
  bool cut = false;
};

// Carries frames between nodes as bad networks do. Old frames are kept and sent again at times, also long after.
class Network {
 public:
  Network(Common common, Random random) : common_(common), random_(random) {}

  void attach(NodeId node, std::function<void(Wire)> deliver) { deliver_[node] = std::move(deliver); }
  Link& link(NodeId from, NodeId to) { return places_[{from, to}].link; }
  void send(NodeId from, NodeId to, Wire bytes);
  void heal();  // Every link is good from now on.

  std::size_t frame_bytes_max = 8972;

 private:
  static constexpr std::size_t kOldFrames = 32;
  struct Place {
    Link link;
    std::uint64_t burst_left = 0;
    std::vector<Wire> old;
  };
  void carry(NodeId from, NodeId to, const Link& link, Wire bytes);
  void damage(const Link& link, Wire& bytes);

  Common common_;
  Random random_;
  std::map<std::pair<NodeId, NodeId>, Place> places_;
  std::map<NodeId, std::function<void(Wire)>> deliver_;
};

// A node's port. Frames wait in a bounded queue, as in a NIC's ring.
class Port : public node::Port {
 public:
  Port(Common common, Network& network, NodeId self, Random random)
      : common_(common), network_(network), self_(self), random_(random) {}

  std::size_t receive(std::span<std::span<std::byte>> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override {}
  std::size_t frame_bytes_max(NodeId) const override { return network_.frame_bytes_max; }

  void arrive(Wire bytes);
  void clear() { waiting_.clear(), held_.clear(); }  // The process ended.
  std::function<void(std::span<const std::byte>)> on_send;
  double full = 0;  // How often there is no room.

 private:
  static constexpr std::size_t kWaitingMax = 1024;
  Common common_;
  Network& network_;
  NodeId self_;
  Random random_;
  std::deque<Wire> waiting_;
  std::vector<Wire> held_;
};

}  // namespace slipstream::sim
