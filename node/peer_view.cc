#include <fmt/format.h>

#include "node/peer.h"

// What people are shown of a replica.
namespace slipstream::node {
namespace {

constexpr Duration kUnreachable = milliseconds(1000);

}  // namespace

void Peer::fill(ReplicaView& view, Instant now) const {
  view.id = member_.id;
  view.name = member_.name;
  view.log_id = log_id_;
  const bool silent = !heard_ || now - last_heard_ > kUnreachable;
  switch (state_) {
    case State::kIdle:
      view.state = "unreachable";
      break;
    case State::kHello:
      view.state = silent ? "unreachable" : "handshake";
      break;
    case State::kComparing:
      view.state = "comparing";
      break;
    case State::kCutting:
      view.state = "cutting";
      break;
    case State::kAdopting:
      view.state = "handshake";
      break;
    case State::kActive:
      view.state = silent ? "unreachable" : slow_ ? "slow" : streaming_ ? "streaming" : "catching_up";
      break;
    case State::kRefused:
      view.state = "refused";
      break;
  }
  view.reason = reason_;
  if (view.state == "unreachable")
    view.reason = heard_ ? fmt::format("nothing heard for {:.1f} s", static_cast<double>((now - last_heard_).ns) / 1e9)
                         : "never heard of";
  else if (view.state == "streaming" && !standby_ready_ && !log_only_)
    view.reason = "does not count yet: no standby has connected to its feed";
  else if (view.state == "catching_up")
    view.reason = catch_up_.describe(ends_[ack::Level::kReceived], facts_.valid_end, now);
  else if (view.state == "slow")
    view.reason = fmt::format("more than {} behind, so served from files; {}", size_text(facts_.slow_backlog),
                              catch_up_.describe(ends_[ack::Level::kReceived], facts_.valid_end, now));
  const ack::ReplicaAcks now_acks = acks(now);
  view.counts = now_acks.counts;
  view.candidate = now_acks.candidate;
  view.standby_ready = standby_ready_;
  view.log_only = log_only_;
  view.ends = ends_;
  view.final_end = final_end_;
  view.last_heard = heard_ ? now - last_heard_ : Duration{};
  view.frames_sent = frames_before_, view.bytes_sent = bytes_before_, view.bytes_resent = resent_before_;
  if (!sender_) return;
  view.sent_end = sender_->sent_end();
  view.round_trip = sender_->round_trip().smoothed();
  view.frame_bytes = path_.frame_bytes();
  view.frames_sent += sender_->counters().frames_sent, view.bytes_sent += sender_->counters().bytes_sent,
      view.bytes_resent += sender_->counters().bytes_resent;
}

}  // namespace slipstream::node
