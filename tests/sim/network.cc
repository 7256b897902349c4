#include "tests/sim/network.h"

#include <algorithm>
#include <array>
#include <variant>

namespace slipstream::sim {
namespace {

Wire bytes_of(const node::OutFrame& frame) {
  Wire out(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
  out.insert(out.end(), frame.payload.begin(), frame.payload.end());
  return out;
}

}  // namespace

void Network::remember(Place& place, const Wire& bytes) {
  if (place.link.replay > 0 || random_.chance(0.02)) {
    if (place.old.size() < kOldFrames)
      place.old.push_back(bytes);
    else
      place.old[random_.below(kOldFrames)] = bytes;
  }
  if (place.link.older == 0) return;
  ++place.sent;
  if (place.ever.size() < kOldFrames)
    place.ever.push_back(bytes);
  else if (const std::uint64_t at = random_.below(place.sent); at < kOldFrames)
    place.ever[at] = bytes;
}

void Network::send(NodeId from, NodeId to, Wire bytes) {
  Place& place = places_[{from, to}];
  const Link& link = place.link;
  ++common_.counts.frames;
  remember(place, bytes);
  if (link.cut) return note_lost(bytes);
  if (place.burst_left == 0 && link.burst > 0 && random_.chance(link.burst)) {
    place.burst_left = random_.from_to(2, 60);
    common_.counts.note(Fault::kBurst);
  }
  if (place.burst_left > 0) {
    --place.burst_left;
    return note_lost(bytes);
  }
  if (random_.chance(link.loss)) {
    common_.counts.note(Fault::kLoss);
    return note_lost(bytes);
  }
  if (random_.chance(link.duplicate)) {
    common_.counts.note(Fault::kDuplicate);
    carry(from, to, link, bytes);
  }
  if (!place.old.empty() && random_.chance(link.replay)) {
    common_.counts.note(Fault::kReplay);
    carry(from, to, link, place.old[random_.below(place.old.size())]);
  }
  send_beside(from, to, place, bytes);
  if (link.aimed > 0 && random_.chance(link.aimed)) {
    common_.counts.note(Fault::kAimedDamage);
    note_lost(bytes);
    damage_a_field(bytes, random_);
    return carry(from, to, link, std::move(bytes), Truth::kFalse);
  }
  damage(link, bytes);
  carry(from, to, link, std::move(bytes));
}

void Network::send_beside(NodeId from, NodeId to, Place& place, const Wire& bytes) {
  const Link& link = place.link;
  if (link.older > 0 && random_.chance(link.older)) {
    const Wire& old = random_.one_of(place.ever);
    if (session_of(old) < session_of(bytes)) {
      common_.counts.note(Fault::kOlderSession);
      carry(from, to, link, old, Truth::kOld);
    }
  }
  if (link.forged == 0 || !random_.chance(link.forged)) return;
  Wire forged = bytes;
  if (place.plaintext.empty()) {
    if (!misdirect(forged, random_)) return;
  } else if (random_.chance(0.5)) {
    forged = place.plaintext;
    forge_plaintext(forged, random_);
  } else {
    forge_sealed(forged, random_);
  }
  common_.counts.note(Fault::kForged);
  carry(from, to, link, std::move(forged), Truth::kFalse);
}

void Network::damage(const Link& link, Wire& bytes) {
  if (random_.chance(link.corruption)) {
    common_.counts.note(Fault::kCorruption);
    note_lost(bytes, true);
    for (std::uint64_t n = random_.from_to(1, 4); n > 0; --n)
      bytes[random_.below(bytes.size())] ^= static_cast<std::byte>(random_.from_to(1, 255));
  }
  if (random_.chance(link.truncation)) {
    common_.counts.note(Fault::kTruncation);
    note_lost(bytes);
    bytes.resize(random_.below(bytes.size()));
  }
}

std::optional<Duration> Network::time_to_send(Place& place, std::size_t bytes) {
  // Nothing overtakes what waits, also where the link is not narrow any more.
  if (place.link.bytes_per_second == 0) return std::max(Duration{}, place.free_at - common_.now());
  const Instant begin = std::max(common_.now(), place.free_at);
  if (begin > common_.now()) common_.counts.note(Fault::kNarrowLink);
  if (begin - common_.now() > kQueueTime) return std::nullopt;
  place.free_at = begin + Duration{static_cast<std::int64_t>(bytes * 1'000'000'000 / place.link.bytes_per_second)};
  return place.free_at - common_.now();
}

void Network::carry(NodeId from, NodeId to, const Link& link, Wire bytes, Truth truth) {
  if (link.frame_bytes_max > 0 && bytes.size() > link.frame_bytes_max) {
    common_.counts.note(Fault::kTooLong);
    return note_lost(bytes);
  }
  const auto sending = time_to_send(places_[{from, to}], bytes.size());
  if (!sending) return note_lost(bytes);
  Duration delay = *sending + link.delay + random_.between({0}, link.jitter);
  if (random_.chance(link.reorder)) {
    common_.counts.note(Fault::kReorder);
    note_lost(bytes);
    bytes_late += bytes_to_repeat(bytes, false);
    delay = delay + random_.between(microseconds(100), milliseconds(5));
  }
  common_.scheduler.after(delay, [this, from, to, truth, frame = std::move(bytes)]() mutable {
    deliver(from, to, std::move(frame), truth);
  });
}

void Network::deliver(NodeId from, NodeId to, Wire bytes, Truth truth) {
  if (places_[{from, to}].link.cut) return note_lost(bytes);
  const Ends& ends = ends_[to];
  // Of an earlier session of the present epoch it may be the first to come, and count.
  const bool past = truth == Truth::kOld && session_of(bytes).epoch < ends.epoch();
  (truth == Truth::kFalse || past ? ends.deliver_false : ends.deliver)(std::move(bytes));
}

void Network::heal() {
  for (auto& [ends, place] : places_) place.link = Link{}, place.burst_left = 0;
}

void Port::send(NodeId peer, const node::OutFrame& frame) {
  if (on_send) on_send(bytes_of(frame));
  if (sealed_ && is_data(bytes_of(frame))) network_.bytes_given += frame.payload.size();
  if (sealed_ && network_.link(self_, peer).forged > 0) network_.overhear(self_, peer, bytes_of(frame));
  port().send(peer, frame);
}

std::size_t Port::receive(std::span<protocol::Arrival> frames) {
  const std::size_t count = port().receive(frames);
  protocol::Frame heard;  // How it was sealed may stand in it: its payload alone counts.
  for (const protocol::Arrival& frame : frames.first(sealed_ ? count : 0))
    if (protocol::decode(frame, heard) == protocol::Verdict::kAccepted)
      if (const auto* data = std::get_if<protocol::Data>(&heard.body)) network_.bytes_heard += data->payload.size();
  return count;
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

void Port::hear_alone(Wire bytes, Instant now, const std::function<void(const protocol::Arrival&)>& node) {
  line_.let_in_only(std::move(bytes));
  std::array<protocol::Arrival, 1> frames;
  port().begin_turn(now);
  if (port().receive(frames) > 0) node(frames[0]);
  line_.let_in_all();
}

void Port::process_ended() {
  line_.clear();
  sealed_.reset();
}

std::size_t Line::receive(std::span<protocol::Arrival> frames) {
  held_.clear();
  if (alone_ && !only_) return 0;
  if (alone_) waiting_.push_front(std::move(*std::exchange(only_, std::nullopt)));
  while (held_.size() < frames.size() && !waiting_.empty()) {
    held_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = protocol::Arrival(held_[i]);
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
  if (waiting_.size() == kWaitingMax) {
    common_.counts.note(Fault::kFullPort);
    return network_.note_lost(bytes);
  }
  waiting_.push_back(std::move(bytes));
}

}  // namespace slipstream::sim
