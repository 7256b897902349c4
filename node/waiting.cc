#include "node/waiting.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "node/catch_up.h"

namespace slipstream::node {
namespace {

// A few heartbeats.
constexpr Duration kQuiet = milliseconds(300);

std::string why(const ReplicaView& replica, Lsn position) {
  if (!replica.reason.empty()) return " (" + replica.reason + ")";
  if (replica.last_heard > kQuiet)
    return fmt::format(" (nothing heard for {:.1f} s)", static_cast<double>(replica.last_heard.ns) / 1e9);
  const Lsn durable = replica.ends[ack::Level::kDurable];
  return durable < position ? " (" + size_text(position - durable) + " not durable yet)" : "";
}

}  // namespace

std::vector<std::string> waiting_sentences(const ack::Policy& policy, std::span<const ack::ReplicaAcks> acks,
                                           std::span<const ReplicaView> replicas, Lsn position) {
  std::vector<std::string> out;
  for (const ack::Waiting& waiting : ack::waiting_for(policy, acks, ack::Level::kDurable, position)) {
    std::vector<std::string> names, states;
    for (const ReplicaView& replica : replicas) {
      if (std::ranges::count(waiting.of, replica.id) == 0) continue;
      names.push_back(replica.name);
      states.push_back(fmt::format("{} {}{}", replica.name, replica.state, why(replica, position)));
    }
    out.push_back(fmt::format("policy needs {} more of ({}): {}", waiting.needed, fmt::join(names, ", "),
                              fmt::join(states, ", ")));
  }
  return out;
}

}  // namespace slipstream::node
