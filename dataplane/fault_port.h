#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "node/io.h"

namespace slipstream::dataplane {

struct Faults {  // Probabilities per frame, in both directions.
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;  // Held back behind up to 8 later frames.
  double corrupt = 0;  // One bit flipped.
  std::uint64_t seed = 1;
};

// Any port, made unreliable: the same seed and the same frames give the same faults. Wraps what is received only, so
// both ends of a link may have one.
class FaultPort : public node::Port {
 public:
  FaultPort(std::unique_ptr<node::Port> inner, Faults faults)
      : inner_(std::move(inner)), faults_(faults), random_(faults.seed * 0x9e3779b97f4a7c15 + 1) {}

  void begin_turn(Instant now) override { inner_->begin_turn(now); }
  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override { return inner_->room(peer); }
  void send(NodeId peer, const node::OutFrame& frame) override { inner_->send(peer, frame); }
  std::optional<std::span<std::byte>> append(NodeId peer, std::size_t bytes) override {
    return inner_->append(peer, bytes);
  }
  void flush() override { inner_->flush(); }
  std::size_t frame_bytes_max(NodeId peer) const override { return inner_->frame_bytes_max(peer); }

  struct Counters {
    std::uint64_t lost = 0, duplicated = 0, reordered = 0, corrupted = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Held {
    std::vector<std::byte> bytes;
    std::uint64_t due = 0;  // Turn or frame count at which it goes on.
  };
  std::uint64_t next_random();
  bool happens(double probability);

  std::unique_ptr<node::Port> inner_;
  Faults faults_;
  std::uint64_t random_;
  std::uint64_t clock_ = 0;  // Frames and turns seen.
  std::deque<Held> held_;
  std::vector<std::vector<std::byte>> given_;  // Copies that the caller may look at until the next receive().
  Counters counters_;
};

}  // namespace slipstream::dataplane
