#pragma once

#include "base/time.h"

namespace slipstream::protocol {

// A frame that is not there this long after one that was sent later is thought lost, until the network is seen to
// overtake by more.
constexpr Duration kReorderAllowance = microseconds(200);

// Smoothed round trip and its deviation (RFC 6298's filter, with a floor that fits a link without a kernel between),
// and how long the other side lets an answer wait so that it tells more (it says so in each).
class RoundTrip {
 public:
  void on_sample(Duration sample, Duration answer_delay = {});
  bool is_sampled() const { return sampled_; }
  Duration smoothed() const { return smoothed_; }
  // After this long without an answer something was lost: smoothed + 4 deviations + what answers waited lately (1 ms at
  // most), between 200 us and 200 ms; 10 ms before the first sample.
  Duration probe_timeout() const;

 private:
  Duration smoothed_{};
  Duration deviation_{};
  Duration answer_delay_{};  // The longest, decaying by an eighth with each sample.
  bool sampled_ = false;
};

}  // namespace slipstream::protocol
