#include "tests/sim/profile.h"

#include <algorithm>

namespace slipstream::sim {
namespace {

std::vector<std::string> policies_for(std::size_t replicas) {
  if (replicas == 1) return {"ANY 1 (b1)", "FIRST 1 (b1)", "ANY 1 (*)"};
  if (replicas == 2)
    return {"ANY 1 (b1, b2)", "ANY 2 (b1, b2)", "FIRST 1 (b1, b2)", "ANY 1 (b1) AND ANY 1 (b2)", "FIRST 1 (b2)"};
  return {"ANY 2 (b1, b2, b3)",   "ANY 2 (b1, b2, b3)",
          "ANY 1 (b1, b2, b3)",   "FIRST 1 (b1, b2, b3)",
          "FIRST 2 (b3, b2, b1)", "ANY 1 (b1, b2) AND ANY 1 (b3)",
          "ANY 1 (b1, b2)",       "ANY 2 (*)"};
}

std::vector<ack::Level> draw_levels(Random& random) {
  using ack::Level;
  switch (random.below(5)) {
    case 0:
      return {Level::kReceived};
    case 1:
      return {Level::kApplied};
    case 2:
      return {Level::kReceived, Level::kDurable, Level::kApplied};
    default:
      return {Level::kDurable};
  }
}

Link draw_network(Random& random) {
  Link link;
  link.delay = microseconds(static_cast<std::int64_t>(random.from_to(5, 100)));
  link.jitter = microseconds(static_cast<std::int64_t>(random.from_to(1, 200)));
  if (random.chance(0.2)) return link;  // A good one.
  const double badness = random.chance(0.2) ? 0.3 : random.chance(0.5) ? 0.05 : 0.005;
  const auto some = [&] { return random.chance(0.6) ? badness * static_cast<double>(random.below(100)) / 100 : 0; };
  link.loss = some();
  link.burst = some() / 50;
  link.duplicate = some();
  link.reorder = some();
  link.corruption = some() / 2;
  link.truncation = some() / 4;
  link.replay = some() / 4;
  return link;
}

}  // namespace

Profile draw_profile(Random& random) {
  Profile p;
  p.replicas = random.chance(0.6) ? 3 : random.from_to(1, 2);
  const auto known = policies_for(p.replicas);
  p.policies.push_back(random.one_of(known));
  const bool asynchronous = random.chance(0.04);
  if (asynchronous) p.policies = {""};
  if (!asynchronous && random.chance(0.4))
    for (int more = 0; more < 2; ++more) p.policies.push_back(random.one_of(known));
  p.load.levels = draw_levels(random);
  for (std::size_t i = 0; i < p.replicas; ++i) {
    const bool applied = std::ranges::count(p.load.levels, ack::Level::kApplied) > 0;
    p.setups.push_back({!applied && random.chance(0.15), random.chance(0.5)});
  }
  p.load.waits = !asynchronous;
  p.load.clients = random.from_to(1, 8);
  p.load.think = milliseconds(static_cast<std::int64_t>(random.from_to(2, 20)));
  p.load.large = random.chance(0.3) ? 0.03 : 0.005;
  p.network = draw_network(random);
  p.frame_bytes = random.chance(0.5) ? 8972 : random.chance(0.5) ? 1472 : 4000;
  p.between_faults = milliseconds(static_cast<std::int64_t>(random.from_to(40, 300)));
  p.duration = milliseconds(static_cast<std::int64_t>(random.from_to(4000, 7000)));
  p.storage_faults = random.chance(0.7);
  p.end = random.chance(0.5) ? Profile::End::kHealed : random.chance(0.7) ? Profile::End::kGone : Profile::End::kCutOff;
  return p;
}

}  // namespace slipstream::sim
