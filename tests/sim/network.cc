#include "tests/sim/network.h"

namespace slipstream::sim {
namespace {

Wire bytes_of(const node::OutFrame& frame) {
  Wire out(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
  out.insert(out.end(), frame.payload.begin(), frame.payload.end());
  return out;
}

}  // namespace

void Network::send(NodeId from, NodeId to, Wire bytes) {
  Place& place = places_[{from, to}];
  const Link& link = place.link;
  ++common_.counts.frames;
  if (link.replay > 0 || random_.chance(0.02)) {
    if (place.old.size() < kOldFrames)
      place.old.push_back(bytes);
    else
      place.old[random_.below(kOldFrames)] = bytes;
  }
  if (link.cut) return;
  if (place.burst_left == 0 && link.burst > 0 && random_.chance(link.burst)) {
    place.burst_left = random_.from_to(2, 60);
    common_.counts.note(Fault::kBurst);
  }
  if (place.burst_left > 0) {
    --place.burst_left;
    return;
  }
  if (random_.chance(link.loss)) return common_.counts.note(Fault::kLoss);
  if (random_.chance(link.duplicate)) {
    common_.counts.note(Fault::kDuplicate);
    carry(from, to, link, bytes);
  }
  if (!place.old.empty() && random_.chance(link.replay)) {
    common_.counts.note(Fault::kReplay);
    carry(from, to, link, place.old[random_.below(place.old.size())]);
  }
  damage(link, bytes);
  carry(from, to, link, std::move(bytes));
}

void Network::damage(const Link& link, Wire& bytes) {
  if (random_.chance(link.corruption)) {
    common_.counts.note(Fault::kCorruption);
    for (std::uint64_t n = random_.from_to(1, 4); n > 0; --n)
      bytes[random_.below(bytes.size())] ^= static_cast<std::byte>(random_.from_to(1, 255));
  }
  if (random_.chance(link.truncation)) {
    common_.counts.note(Fault::kTruncation);
    bytes.resize(random_.below(bytes.size()));
  }
}

void Network::carry(NodeId from, NodeId to, const Link& link, Wire bytes) {
  Duration delay = link.delay + random_.between({0}, link.jitter);
  if (random_.chance(link.reorder)) {
    common_.counts.note(Fault::kReorder);
    delay = delay + random_.between(microseconds(100), milliseconds(5));
  }
  common_.scheduler.after(delay, [this, from, to, frame = std::move(bytes)]() mutable {
    if (!places_[{from, to}].link.cut) deliver_[to](std::move(frame));
  });
}

void Network::heal() {
  for (auto& [ends, place] : places_) place.link = Link{}, place.burst_left = 0;
}

void Port::send(NodeId peer, const node::OutFrame& frame) {
  if (on_send) on_send(bytes_of(frame));
  port().send(peer, frame);
}

// Keys are the hosts' for good; what is agreed on is gone with the process.
void Port::process_started() {
  if (!sealing_) return;
  const auto source = [](Random random) {
    return [random](std::span<std::byte> out) mutable {
      for (std::byte& each : out) each = static_cast<std::byte>(random.next() >> 56);
    };
  };
  const auto host_key = [&](NodeId id) { return seal::key_pair_of(seal::Secret::random(source(Random(id.value)))); };
  std::vector<node::SealedPeer> peers;
  for (const ack::Member& peer : sealing_->peers) peers.push_back({peer.id, peer.name, host_key(peer.id).public_key});
  sealed_ = std::make_unique<node::SealedPort>(
      line_,
      node::SealOptions{self_, sealing_->name, sealing_->initiates, host_key(self_),
                        seal::Secret::random(source(Random(0))), random_.from_to(50, 5000), source(random_.fork()),
                        random_.chance(0.2)},
      peers);
}

void Port::process_ended() {
  line_.clear();
  sealed_.reset();
}

std::size_t Line::receive(std::span<std::span<std::byte>> frames) {
  held_.clear();
  while (held_.size() < frames.size() && !waiting_.empty()) {
    held_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = held_[i];
  return held_.size();
}

std::size_t Line::room(NodeId) {
  if (full == 0 || !random_.chance(full)) return 64;
  common_.counts.note(Fault::kFullPort);
  return random_.below(3);
}

void Line::send(NodeId peer, const node::OutFrame& frame) {
  Wire bytes = bytes_of(frame);
  if (bytes.size() > frame_bytes_max(peer))
    common_.trace.fail("node {} sent a frame of {} bytes", self_.value, bytes.size());
  network_.send(self_, peer, std::move(bytes));
}

void Line::arrive(Wire bytes) {
  if (waiting_.size() == kWaitingMax) return common_.counts.note(Fault::kFullPort);
  waiting_.push_back(std::move(bytes));
}

}  // namespace slipstream::sim
