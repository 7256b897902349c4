#pragma once

#include <span>
#include <vector>

#include "ack/policy.h"
#include "node/state_keeper.h"

namespace slipstream::node {

// The replicas that this primary has met, remembered over restarts: the slot stays where it is until each of them is
// heard again, for nothing else keeps the WAL that they lack. One never met is not waited for: the slot that
// init-standby made keeps its WAL, until this knows of it durably.
// Guarantee: once durable(), expects() is true of every configured replica that was met, in or out of the policy. If
// the state was lost, or is an older one, it is true of all that are configured from when the first of them is met.
class MetReplicas {
 public:
  MetReplicas(StateKeeper& keeper, std::span<const ack::Member> replicas) : keeper_(keeper), replicas_(replicas) {}

  // `policy_version` is what it was told last, 0: never anything.
  void meet(const ack::Member& replica, LogId log, std::uint64_t policy_version);
  void expect_all();  // The state was found to be an older copy of itself: any configured replica may have been met.
  bool durable() const { return keeper_.durable(ticket_); }
  bool expects(const ack::Member& replica) const;

 private:
  void record(const ack::Member& replica, LogId log);

  StateKeeper& keeper_;
  std::span<const ack::Member> replicas_;
  StateKeeper::Ticket ticket_ = 0;
};

// For a state made because another was lost, or that may be an older one (a term was claimed by hand): any configured
// replica may have been met before.
void expect_all(State& state, std::span<const ack::Member> replicas);

}  // namespace slipstream::node
