#pragma once

#include <string>
#include <vector>

#include "tests/sim/network.h"
#include "tests/sim/postgres.h"
#include "tests/sim/random.h"
#include "tests/sim/replica_host.h"

namespace slipstream::sim {

// What kind of a run a seed is.
struct Profile {
  std::size_t replicas = 3;
  std::vector<std::string> policies;  // The first is in force at the start; restarts may bring others.
  std::vector<ReplicaHost::Setup> setups;
  Postgres::Load load;
  Link network;  // As every link is most of the time.
  std::size_t frame_bytes = 8972;
  Duration between_faults = milliseconds(120);
  Duration duration = seconds(6);
  bool faults = true;
  bool storage_faults = true;
  bool harsh = false;     // Also forged frames, narrow links and the like.
  bool ahead = false;     // WAL is shipped as soon as it is written.
  bool restored = false;  // State directories are replaced by older copies of themselves.
  enum class End { kHealed, kGone, kCutOff } end = End::kHealed;
};

Profile draw_profile(Random& random);

}  // namespace slipstream::sim
