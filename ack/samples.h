#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ack/level.h"
#include "base/histogram.h"
#include "base/time.h"

namespace slipstream::ack {

// When one position was acknowledged by each replica at each level; kNever where not (yet).
struct JointSample {
  Lsn end;
  Instant shipped;
  std::array<std::array<Instant, kLevels>, kReplicasMax> acked;  // [replica's index][level]
};

// The last `capacity` positions shipped and when each replica acknowledged each level: the joint distribution that
// "what if the policy were …" is computed from, and each replica's lag. Guarantees: (1) No allocation after
// construction. (2) on_shipped() and on_acked() are amortised O(1) per replica and level: a cursor for each passes
// every sample once. (3) An acknowledgement counts once, at the first ack that covers it. (4) A sample pushed out
// before its ack came is in no lag: a replica further behind than the ring shows too small a lag, and its position
// tells. Threading: one thread.
class SampleRing {
 public:
  SampleRing(std::size_t capacity, std::size_t replicas);  // Capacity is a power of two; replicas at most kReplicasMax.

  // Ends rise. The newest end again is no new sample; one below it (another history) drops all that are kept.
  void on_shipped(Lsn end, Instant now);
  void on_acked(std::size_t replica, Level level, Lsn end, Instant now);

  // Lag from shipped to acknowledged, over all samples since start.
  const Histogram& lag(std::size_t replica, Level level) const;
  std::size_t size() const { return static_cast<std::size_t>(next_ - oldest_); }
  const JointSample& at(std::size_t index) const;  // 0 is the oldest kept; index < size().

 private:
  using Serial = std::uint64_t;  // Counts samples from the first; a slot is its remainder.
  JointSample& slot(Serial serial) { return samples_[serial & (samples_.size() - 1)]; }
  const JointSample& slot(Serial serial) const { return samples_[serial & (samples_.size() - 1)]; }

  std::vector<JointSample> samples_;
  Serial oldest_ = 0;
  Serial next_ = 0;
  std::vector<std::array<Serial, kLevels>> cursors_;  // The first sample not yet acknowledged there.
  std::vector<std::array<Histogram, kLevels>> lags_;
};

}  // namespace slipstream::ack
