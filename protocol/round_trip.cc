#include "protocol/round_trip.h"

#include <algorithm>

namespace slipstream::protocol {

void RoundTrip::on_sample(Duration sample) {
  if (sample.ns < 0) return;
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
  return {std::clamp((smoothed_ + deviation_ * 4).ns, milliseconds(1).ns, milliseconds(200).ns)};
}

}  // namespace slipstream::protocol
