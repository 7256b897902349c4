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
#include "tests/sim/forger.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

namespace slipstream::sim {

// How one direction between two nodes behaves at the moment.
struct Link {
  double loss = 0;
  double burst = 0;  // That a burst of losses begins with this frame.
  double duplicate = 0;
  double reorder = 0;
  double corruption = 0;
  double truncation = 0;
  double replay = 0;
  double aimed = 0;                    // One field is damaged.
  double forged = 0;                   // Another frame comes beside this one: forged, or of another address.
  double older = 0;                    // Or one of an earlier session, from any time before.
  std::uint64_t bytes_per_second = 0;  // 0: no limit.
  std::size_t frame_bytes_max = 0;     // Longer ones vanish, as behind a router with a smaller MTU. 0: none do.
  Duration delay = microseconds(20);
  Duration jitter = microseconds(10);
  bool cut = false;
};

// Carries frames between nodes as bad networks do. Old frames are kept and sent again at times, also long after.
class Network {
 public:
  Network(Common common, Random random) : common_(common), random_(random) {}

  struct Ends {
    std::function<void(Wire)> deliver;
    std::function<void(Wire)> deliver_false;  // What its tag, or its epoch, gives away: it may change nothing.
    std::function<Epoch()> epoch = [] { return Epoch{}; };  // Below which all is of the past.
  };
  void attach(NodeId node, Ends ends) { ends_[node] = std::move(ends); }
  Link& link(NodeId from, NodeId to) { return places_[{from, to}].link; }
  void send(NodeId from, NodeId to, Wire bytes);
  // The frame that is sealed and sent next, as one who guesses well would forge it.
  void overhear(NodeId from, NodeId to, Wire plaintext) { places_[{from, to}].plaintext = std::move(plaintext); }
  void heal();  // Every link is good from now on.

  // Of data frames: lost, damaged, or so late that they may be taken for lost.
  void note_lost(const Wire& bytes, bool damaged = false) { bytes_lost += bytes_to_repeat(bytes, damaged); }
  std::uint64_t bytes_lost = 0;
  // Where frames are sealed: of data that a node gave to its port, that the node it was for heard, and that came late.
  std::uint64_t bytes_given = 0, bytes_heard = 0, bytes_late = 0;

  std::size_t frame_bytes_max = 8972;

 private:
  static constexpr std::size_t kOldFrames = 32;
  static constexpr Duration kQueueTime = milliseconds(20);  // What a narrow link lets wait.
  struct Place {
    Link link;
    std::uint64_t burst_left = 0;
    std::vector<Wire> old;
    std::vector<Wire> ever;  // Each frame sent so far with the same chance.
    std::uint64_t sent = 0;
    Wire plaintext;
    Instant free_at{};  // When the link has sent all that waits for it.
  };
  enum class Truth : std::uint8_t { kSent, kOld, kFalse };
  void carry(NodeId from, NodeId to, const Link& link, Wire bytes, Truth truth = Truth::kSent);
  void deliver(NodeId from, NodeId to, Wire bytes, Truth truth);
  // When the link has sent it; none if its queue is full.
  std::optional<Duration> time_to_send(Place& place, std::size_t bytes);
  void remember(Place& place, const Wire& bytes);
  void send_beside(NodeId from, NodeId to, Place& place, const Wire& bytes);
  void damage(const Link& link, Wire& bytes);

  Common common_;
  Random random_;
  std::map<std::pair<NodeId, NodeId>, Place> places_;
  std::map<NodeId, Ends> ends_;
};

// Where a node's frames leave and arrive. They wait in a bounded queue, as in a NIC's ring.
class Line : public node::Port {
 public:
  Line(Common common, Network& network, NodeId self, Random random)
      : common_(common), network_(network), self_(self), random_(random) {}

  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override {}
  std::size_t frame_bytes_max(NodeId) const override { return network_.frame_bytes_max; }

  void arrive(Wire bytes);
  void clear() { waiting_.clear(), held_.clear(); }
  // receive() gives this one and then nothing, until all are let in again.
  void let_in_only(Wire bytes) { only_ = std::move(bytes), alone_ = true; }
  void let_in_all() { only_.reset(), alone_ = false; }
  double full = 0;  // How often there is no room.

 private:
  static constexpr std::size_t kWaitingMax = 1024;
  Common common_;
  Network& network_;
  NodeId self_;
  Random random_;
  std::deque<Wire> waiting_;
  std::optional<Wire> only_;
  bool alone_ = false;
  std::vector<Wire> held_;
};

// A node's port: its line, sealed in some runs.
class Port : public node::Port {
 public:
  Port(Common common, Network& network, NodeId self, Random random)
      : network_(network), self_(self), random_(~Random(random).next()), line_(common, network, self, random) {}

  void begin_turn(Instant now) override { port().begin_turn(now); }
  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override { return port().room(peer); }
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override { port().flush(); }
  std::size_t frame_bytes_max(NodeId peer) const override {
    return sealed_ ? sealed_->frame_bytes_max(peer) : line_.frame_bytes_max(peer);
  }

  void arrive(Wire bytes) { line_.arrive(std::move(bytes)); }
  // What of this one frame reaches the node, before all that waits.
  void hear_alone(Wire bytes, Instant now, const std::function<void(const protocol::Arrival&)>& node);
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

  Network& network_;
  NodeId self_;
  Random random_;
  Line line_;
  std::optional<Sealing> sealing_;
  std::unique_ptr<node::SealedPort> sealed_;  // Of the process that runs.
};

}  // namespace slipstream::sim
