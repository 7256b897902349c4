#pragma once

#include "base/time.h"

namespace slipstream::protocol {

// Smoothed round trip and its deviation (RFC 6298's filter, with a floor that fits a LAN).
class RoundTrip {
 public:
  void on_sample(Duration sample);
  Duration smoothed() const { return smoothed_; }
  // After this long without an answer something was lost: smoothed + 4 deviations, between 1 ms and 200 ms; 10 ms
  // before the first sample.
  Duration probe_timeout() const;

 private:
  Duration smoothed_{};
  Duration deviation_{};
  bool sampled_ = false;
};

}  // namespace slipstream::protocol
