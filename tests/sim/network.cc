#include "tests/sim/network.h"

namespace slipstream::sim {

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

std::size_t Port::receive(std::span<std::span<std::byte>> frames) {
  held_.clear();
  while (held_.size() < frames.size() && !waiting_.empty()) {
    held_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = held_[i];
  return held_.size();
}

std::size_t Port::room(NodeId) {
  if (full == 0 || !random_.chance(full)) return 64;
  common_.counts.note(Fault::kFullPort);
  return random_.below(3);
}

void Port::send(NodeId peer, const node::OutFrame& frame) {
  Wire bytes(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
  bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
  if (bytes.size() > frame_bytes_max(peer))
    common_.trace.fail("node {} sent a frame of {} bytes", self_.value, bytes.size());
  if (on_send) on_send(bytes);
  network_.send(self_, peer, std::move(bytes));
}

void Port::arrive(Wire bytes) {
  if (waiting_.size() == kWaitingMax) return common_.counts.note(Fault::kFullPort);
  waiting_.push_back(std::move(bytes));
}

}  // namespace slipstream::sim
