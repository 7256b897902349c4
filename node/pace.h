#pragma once

#include <optional>

#include "base/lsn.h"
#include "base/time.h"

namespace slipstream::node {

// How fast WAL is read again for replicas that catch up, all together, so that commits which others acknowledge are not
// slowed: a token bucket. Its rate is given, or found: commits tell how long they took; while their mean is hardly
// longer than before the catch-up, and hardly more of them than before take long, the rate rises, otherwise it
// falls by a quarter; every 200 ms. It rises by an eighth until commits took longer for the first time, then by a
// fiftieth: as congestion control does, quickly over three orders of magnitude, then without going far beyond. The mean
// alone does not tell: on a shared disk one commit in fifty waits behind a large write. Guarantees: (1) Never less than
// twice what the log grows by, so that the gap closes. (2) Never less than kLeast. (3) No limit while commits wait.
class Pace {
 public:
  static constexpr double kLeast = 16 << 20;  // Bytes a second.
  static constexpr double kMost = 16.0 * (1ull << 30);
  static constexpr double kSlower = 1.08;   // Times what commits took before: no longer "hardly".
  static constexpr double kLong = 0.1;      // This part of the commits takes "long" usually;
  static constexpr double kMoreLong = 1.5;  // times that: no longer "hardly more".

  explicit Pace(std::optional<ByteCount> fixed_rate) : fixed_(fixed_rate) {}

  // Each turn. `log_end`: how far the log has grown; `open`: commits wait, no limit.
  void on_turn(Lsn log_end, bool open, Instant now);
  // A commit's way to the quorum took so long. A sample of them is enough.
  void on_commit(Duration took);

  bool allows() const { return open_ || allowed_ > 0; }
  void spend(ByteCount bytes);
  Instant next() const;  // When it allows again, at the earliest.
  double rate() const;   // Bytes a second.

 private:
  void measure(Lsn log_end, Instant now);
  void adapt();

  const std::optional<ByteCount> fixed_;
  bool open_ = false;
  double allowed_ = 0;
  Instant seen_{};
  // Since the last measurement.
  Instant measured_{};
  Lsn log_end_then_{};
  double spent_ = 0;
  double took_sum_ns_ = 0;
  double took_count_ = 0;
  double long_count_ = 0;  // Of them, those that took clearly longer than long_ns_.

  double growth_ = 0;  // Of the log, bytes a second.
  double found_ = kLeast;
  bool limit_met_ = false;  // By this catch-up: commits took longer once.
  double usual_ns_ = 0;     // A commit's way while nothing is read for catch-up; 0: not known.
  double long_ns_ = 0;      // What kLong of the commits exceed meanwhile.
};

}  // namespace slipstream::node
