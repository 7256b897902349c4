#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ack/policy.h"
#include "node/io.h"
#include "node/sealed_port.h"
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

// Where a node's frames leave and arrive. They wait in a bounded queue, as in a NIC's ring.
class Line : public node::Port {
 public:
  Line(Common common, Network& network, NodeId self, Random random)
      : common_(common), network_(network), self_(self), random_(random) {}

  std::size_t receive(std::span<std::span<std::byte>> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override {}
  std::size_t frame_bytes_max(NodeId) const override { return network_.frame_bytes_max; }

  void arrive(Wire bytes);
  void clear() { waiting_.clear(), held_.clear(); }
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

// A node's port: its line, sealed in some runs.
class Port : public node::Port {
 public:
  Port(Common common, Network& network, NodeId self, Random random)
      : self_(self), random_(~Random(random).next()), line_(common, network, self, random) {}

  void begin_turn(Instant now) override { port().begin_turn(now); }
  std::size_t receive(std::span<std::span<std::byte>> frames) override { return port().receive(frames); }
  std::size_t room(NodeId peer) override { return port().room(peer); }
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override { port().flush(); }
  std::size_t frame_bytes_max(NodeId peer) const override {
    return sealed_ ? sealed_->frame_bytes_max(peer) : line_.frame_bytes_max(peer);
  }

  void arrive(Wire bytes) { line_.arrive(std::move(bytes)); }
  void process_started();
  void process_ended();
  void set_full(double how_often) { line_.full = how_often; }
  void seal(std::string name, bool initiates, std::vector<ack::Member> peers) {
    sealing_ = Sealing{std::move(name), initiates, std::move(peers)};
  }
  std::function<void(std::span<const std::byte>)> on_send;  // In plaintext.

 private:
  struct Sealing {
    std::string name;
    bool initiates = false;
    std::vector<ack::Member> peers;
  };
  node::Port& port() { return sealed_ ? static_cast<node::Port&>(*sealed_) : line_; }

  NodeId self_;
  Random random_;
  Line line_;
  std::optional<Sealing> sealing_;
  std::unique_ptr<node::SealedPort> sealed_;  // Of the process that runs.
};

}  // namespace slipstream::sim
