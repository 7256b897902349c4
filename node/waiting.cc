#include "node/waiting.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace slipstream::node {

std::vector<std::string> waiting_sentences(const ack::Policy& policy, std::span<const ack::ReplicaAcks> acks,
                                           std::span<const ReplicaView> replicas, Lsn position) {
  std::vector<std::string> out;
  for (const ack::Waiting& waiting : ack::waiting_for(policy, acks, ack::Level::kDurable, position)) {
    std::vector<std::string> names, states;
    for (const ReplicaView& replica : replicas) {
      if (std::ranges::count(waiting.of, replica.id) == 0) continue;
      names.push_back(replica.name);
      states.push_back(fmt::format("{} {}{}", replica.name, replica.state,
                                   replica.reason.empty() ? "" : " (" + replica.reason + ")"));
    }
    out.push_back(fmt::format("policy needs {} more of ({}): {}", waiting.needed, fmt::join(names, ", "),
                              fmt::join(states, ", ")));
  }
  return out;
}

}  // namespace slipstream::node
