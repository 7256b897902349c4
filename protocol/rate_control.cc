#include "protocol/rate_control.h"

#include <algorithm>

namespace slipstream::protocol {
namespace {

constexpr Duration kBaseKept = seconds(10);
constexpr Duration kDrainPeriod = milliseconds(500);
constexpr Duration kBurst = milliseconds(5);
constexpr double kWindowMost = 1 << 30;
constexpr double kVelocityMost = 64;

Duration time_for(double bytes, ByteCount rate) {
  return {static_cast<std::int64_t>(bytes / static_cast<double>(rate.value) * 1e9)};
}

}  // namespace

void RateControl::Least::add(Duration sample, Duration length, Instant now) {
  if (now - turned_ >= Duration{length.ns / 2}) {
    parts_ = {kNone, parts_[0], parts_[1]};
    turned_ = now;
  }
  parts_[0] = std::min(parts_[0], sample);
}

bool RateControl::allows(ByteCount under_way, Instant now) const {
  if (limits_.rate_max && paid_until_ > now) return false;
  return !limits_.shared_link || static_cast<double>(under_way.value) < (now < drains_until_ ? kLeast : window_);
}

Instant RateControl::next() const { return limits_.rate_max ? paid_until_ : Instant{}; }

// Paid for beforehand at most a burst ago: that long it may go on at once.
void RateControl::on_sent(ByteCount bytes, Instant now) {
  if (!limits_.rate_max) return;
  const Duration burst = std::max(kBurst, time_for(kLeast, *limits_.rate_max));
  paid_until_ =
      std::max(paid_until_, Instant{now.ns - burst.ns}) + time_for(static_cast<double>(bytes.value), *limits_.rate_max);
}

void RateControl::on_ack(ByteCount bytes, ByteCount under_way, Duration round_trip, Instant now) {
  if (!limits_.shared_link || round_trip.ns <= 0) return;
  smoothed_.ns += smoothed_.ns == 0 ? round_trip.ns : (round_trip.ns - smoothed_.ns) / 8;
  base_.add(round_trip, kBaseKept, now);
  standing_.add(round_trip, {smoothed_.ns / 2}, now);
  if (now - drained_ >= kDrainPeriod) drained_ = now, drains_until_ = now + smoothed_ * 2;
  if (now < drains_until_ + smoothed_ || static_cast<double>(under_way.value) < window_ / 2) return;
  const auto queueing = static_cast<double>((standing_.value() - base_.value()).ns);
  const double target = queueing > 0 ? kQueued * static_cast<double>(standing_.value().ns) / queueing : 2 * kWindowMost;
  steer(static_cast<double>(bytes.value), target, now);
}

void RateControl::steer(double acked, double target, Instant now) {
  if (starting_) {
    window_ = std::min(window_ + acked, kWindowMost);
    starting_ = window_ < target;
    return;
  }
  if (now - looked_ >= smoothed_) {
    const bool rising = window_ > window_then_;
    same_direction_ = rising == rising_ ? same_direction_ + 1 : 0;
    velocity_ = same_direction_ >= 3 ? std::min(velocity_ * 2, kVelocityMost) : 1;
    rising_ = rising, window_then_ = window_, looked_ = now;
  }
  const bool up = window_ < target;
  if (up != rising_) velocity_ = 1;
  const double change = velocity_ * kQueued * acked / window_;
  window_ = std::clamp(window_ + (up ? change : -change), static_cast<double>(kLeast), kWindowMost);
}

}  // namespace slipstream::protocol
