#pragma once

#include <optional>
#include <string>

#include "base/lsn.h"
#include "base/time.h"

namespace slipstream::node {

// How far a replica still is from the end of the log, and for how long at the speed it has had since it began. The log
// grows meanwhile; both are of the gap.
class CatchUp {
 public:
  CatchUp() = default;
  CatchUp(Lsn held_end, Lsn log_end, Instant now) : begun_(now), gap_at_begin_(gap(held_end, log_end)) {}

  // Nothing while the gap has not shrunk yet, or grows.
  std::optional<Duration> time_left(Lsn held_end, Lsn log_end, Instant now) const;
  // "1.2 GB to go, 12 s at this speed", "80 kB to go".
  std::string describe(Lsn held_end, Lsn log_end, Instant now) const;

 private:
  static ByteCount gap(Lsn held_end, Lsn log_end) { return held_end < log_end ? log_end - held_end : ByteCount{}; }

  Instant begun_{};
  ByteCount gap_at_begin_{};
};

// In units of 1024: "512 B", "80 kB", "1.2 GB".
std::string size_text(ByteCount bytes);

}  // namespace slipstream::node
