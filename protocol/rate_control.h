#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/lsn.h"
#include "base/time.h"
#include "protocol/frame.h"

namespace slipstream::protocol {

struct RateLimits {
  bool shared_link = false;             // Others use the link too: leave them their part.
  std::optional<ByteCount> rate_max{};  // A second.
};

// How much may be under way to one peer, so that a link that others use too is shared with them fairly and its queues
// stay short; and how fast, at most. On a shared link after Copa (Arun and Balakrishnan, NSDI 2018), in bytes: what is
// under way is steered towards kQueued * round trip / queueing delay, where the queueing delay is the least round trip
// of the last half round trip over the least of the last 10 s. So each stream keeps about kQueued in the queue, and
// streams that see the same queue get the same rate. Twice a second it falls to kLeast for two round trips, so that
// others see the link without our part of the queue. A cap is a token bucket of 5 ms, at least kLeast.
//
// Guarantees:
//   (1) Without a limit it allows everything.
//   (2) After silence at least kLeast goes out at once (of a cap's bucket, its burst).
//   (3) What is under way grows and shrinks only while it is what limits the sender.
class RateControl {
 public:
  static constexpr std::uint64_t kQueued = kBatchBytesMax;
  // Less would wait for itself: a batch is acknowledged once it is whole.
  static constexpr std::uint64_t kLeast = kBatchBytesMax * 5 / 4;

  explicit RateControl(RateLimits limits) : limits_(limits) {}

  bool allows(ByteCount under_way, Instant now) const;
  Instant next() const;  // When the cap allows more; in the past: now.
  void on_sent(ByteCount bytes, Instant now);
  // An acknowledgement of `bytes`, while `under_way` was not acknowledged, after this round trip.
  void on_ack(ByteCount bytes, ByteCount under_way, Duration round_trip, Instant now);

  std::uint64_t window() const { return static_cast<std::uint64_t>(window_); }

 private:
  // The least of about the last `length` (one to one and a half of it).
  class Least {
   public:
    void add(Duration sample, Duration length, Instant now);
    Duration value() const { return std::min({parts_[0], parts_[1], parts_[2]}); }

   private:
    static constexpr Duration kNone{INT64_MAX};
    std::array<Duration, 3> parts_{kNone, kNone, kNone};
    Instant turned_{};
  };

  void steer(double acked, double target, Instant now);

  RateLimits limits_;
  Instant paid_until_{};
  double window_ = 2 * kLeast;
  bool starting_ = true;  // Doubling with each round trip, until there is a queue.
  Least base_, standing_;
  Instant drained_{}, drains_until_{};
  Duration smoothed_{};
  // Kept up for round trips in the same direction, it is the faster.
  double velocity_ = 1;
  bool rising_ = true;
  int same_direction_ = 0;
  double window_then_ = 0;
  Instant looked_{};
};

}  // namespace slipstream::protocol
