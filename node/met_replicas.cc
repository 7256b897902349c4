#include "node/met_replicas.h"

#include <algorithm>

namespace slipstream::node {
namespace {

// Renamed or renumbered, it may still be the same.
bool is_among(const std::vector<MemberRecord>& records, const ack::Member& replica) {
  return std::ranges::any_of(
      records, [&](const MemberRecord& each) { return each.id == replica.id || each.name == replica.name; });
}

bool is_member(const PolicyRecord& policy, const ack::Member& replica) {
  return std::ranges::any_of(policy.members, [&](const MemberRecord& each) {
    return !each.log_id.value.none() && (each.id == replica.id || each.name == replica.name);
  });
}

}  // namespace

// Whoever was told a policy without being on record was met under another state than this one, and so may others.
void MetReplicas::meet(const ack::Member& replica, LogId log, std::uint64_t policy_version) {
  const auto& met = keeper_.state().met;
  if (std::ranges::find(met, MemberRecord{replica.name, replica.id, log}) != met.end()) return;
  const bool known = std::ranges::find(met, log, &MemberRecord::log_id) != met.end();
  record(replica, log);
  if (policy_version == 0 || known) return;
  for (const ack::Member& each : replicas_)
    if (!is_among(met, each)) record(each, {});
}

void MetReplicas::expect_all() {
  ticket_ = keeper_.change([&](State& s) { node::expect_all(s, replicas_); });
}

void MetReplicas::record(const ack::Member& replica, LogId log) {
  ticket_ = keeper_.change([&](State& s) {
    std::erase_if(s.met, [&](const MemberRecord& each) { return each.id == replica.id || each.name == replica.name; });
    s.met.push_back({replica.name, replica.id, log});
  });
}

void expect_all(State& state, std::span<const ack::Member> replicas) {
  for (const ack::Member& each : replicas)
    if (!is_among(state.met, each)) state.met.push_back({each.name, each.id, {}});
}

bool MetReplicas::expects(const ack::Member& replica) const {
  const State& state = keeper_.state();
  return is_among(state.met, replica) || is_member(state.policy, replica) ||
         (state.pending_policy && is_member(*state.pending_policy, replica));
}

}  // namespace slipstream::node
