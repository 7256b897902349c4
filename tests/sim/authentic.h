#pragma once

#include <string>

#include "node/snapshot.h"
#include "tests/sim/network.h"

namespace slipstream::sim {

// All of a node's state that a frame could change and that is not a counter or a time.
std::string state_of(const node::Snapshot& snapshot);

// The node hears this one frame, which is not what its sender sent, or is of an epoch that has passed: it must change
// nothing.
template <class Node>
void hear_false(Common common, Node& node, Port& port, Wire bytes) {
  common.counts.note(Check::kOnlyAuthentic);
  const Instant now = common.now();
  const std::string before = state_of(node.snapshot(now));
  auto verdict = protocol::Verdict::kForged;
  port.hear_alone(bytes, now, [&](const protocol::Arrival& frame) { verdict = node.on_frame(frame, now); });
  const std::string after = state_of(node.snapshot(now));
  common.trace.note("network", "false frame", bytes.size(), static_cast<std::uint64_t>(verdict));
  if (after != before)
    common.trace.fail("a frame that is false, of kind {}, changed state ({}):\n  {}\n  {}",
                      std::to_integer<int>(bytes[3]), protocol::to_string(verdict), before, after);
}

}  // namespace slipstream::sim
