#include "protocol/round_trip.h"

#include <algorithm>

namespace slipstream::protocol {
namespace {

constexpr Duration kTimeoutLeast = microseconds(200);
constexpr Duration kTimeoutMost = milliseconds(200);
constexpr Duration kAnswerDelayMost = milliseconds(1);

}  // namespace

void RoundTrip::on_sample(Duration sample, Duration answer_delay) {
  if (sample.ns < 0) return;
  const std::int64_t decayed = answer_delay_.ns - answer_delay_.ns / 8;
  answer_delay_ = std::max(Duration{decayed}, std::min(answer_delay, kAnswerDelayMost));
  if (!sampled_) {
    smoothed_ = sample;
    deviation_ = {sample.ns / 2};
    sampled_ = true;
    return;
  }
  const std::int64_t error = sample.ns - smoothed_.ns;
  deviation_.ns += ((error < 0 ? -error : error) - deviation_.ns) / 4;
  smoothed_.ns += error / 8;
}

Duration RoundTrip::probe_timeout() const {
  if (!sampled_) return milliseconds(10);
  return std::clamp(smoothed_ + deviation_ * 4 + answer_delay_, kTimeoutLeast, kTimeoutMost);
}

}  // namespace slipstream::protocol
