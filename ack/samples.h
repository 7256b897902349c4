#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "ack/level.h"
#include "base/histogram.h"
#include "base/ids.h"
#include "base/time.h"

namespace slipstream::ack {

constexpr std::size_t kReplicasMax = 16;

// When one position was acknowledged by each replica at each level; kNever where not (yet).
struct JointSample {
  Lsn end;
  Instant shipped;
  std::array<std::array<Instant, kLevels>, kReplicasMax> acked;  // [replica's index][level]
};

// The last `capacity` positions shipped and when each replica acknowledged each level: the joint distribution that "what if the policy
// were …" is computed from, and each replica's lag. No allocation after construction.
class SampleRing {
 public:
  SampleRing(std::size_t capacity, std::size_t replicas);

  void on_shipped(Lsn end, Instant now);  // Ends rise.
  void on_acked(std::size_t replica, Level level, Lsn end, Instant now);

  // Lag from shipped to acknowledged, over all samples since start.
  const Histogram& lag(std::size_t replica, Level level) const;
  std::size_t size() const;
  const JointSample& at(std::size_t index) const;  // 0 is the oldest kept.

 private:
  // to be designed: a cursor per replica and level makes on_acked amortised O(1).
};

}  // namespace slipstream::ack
