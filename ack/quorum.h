#pragma once

#include <optional>
#include <span>
#include <vector>

#include "ack/level.h"
#include "ack/policy.h"

namespace slipstream::ack {

// What the primary knows of one replica when it asks the quorum.
struct ReplicaAcks {
  NodeId id;
  Ends ends;               // As acknowledged in its current session.
  bool counts = false;     // May count at all: streaming, and with a usable standby or log_only (safety rule Q2).
  bool candidate = false;  // FIRST may choose it: counts, and the failure detector has heard from it lately (Q3).
};

// The position a policy's quorum holds at one level: the dumb definition, straight from PostgreSQL's syncrep.c.
// ANY n: the n-th largest among members that count. FIRST n: the least among the n candidates of highest priority. AND:
// the least over the terms. Nothing when some term has too few members. The empty policy has no position of its own:
// nothing. Replicas that the policy does not name change nothing.
std::optional<Lsn> committed(const Policy& policy, std::span<const ReplicaAcks> replicas, Level level);

// committed() over time: the ends that may be reported.
// Guarantees: (1) No end regresses within the life of this object, but by forget_beyond(). (R1, Q3)
//   (2) From begin_change() to finish_change() an end moves only to what the old policy and every policy begun since
//   all hold; an empty one among them asks for nothing. (Q5: a policy that may be in some replica's state file is
//   obeyed until a later one is durable.)
// Threading: one thread. update() allocates nothing.
class Quorum {
 public:
  explicit Quorum(Policy policy) : policy_(std::move(policy)) {}

  // Re-evaluates; returns true if an end moved.
  bool update(std::span<const ReplicaAcks> replicas);
  const Ends& committed_ends() const { return ends_; }
  const Policy& policy() const { return policy_; }  // The one in force: the old one during a change.
  // The log ends here: what was committed beyond is none of it, and other bytes take its place.
  void forget_beyond(Lsn end) {
    for (Lsn& each : ends_.at) each = std::min(each, end);
  }

  void begin_change(Policy next);
  void
  finish_change();  // The last policy begun is durable on replicas that satisfy all of them; the others are forgotten.
  bool changing() const { return !next_.empty(); }

 private:
  std::optional<Lsn> held(std::span<const ReplicaAcks> replicas, Level level) const;

  Policy policy_;
  std::vector<Policy> next_;  // In the order begun.
  Ends ends_{};
};

// Whom commits wait for at `level` until `position` is held: per unmet term, how many more are needed and of whom. For
// status. Empty exactly if the policy is empty or committed() has reached `position`.
struct Waiting {
  std::size_t term = 0;
  std::uint32_t needed = 0;
  std::vector<NodeId> of;  // In order of priority.
};
std::vector<Waiting> waiting_for(const Policy& policy, std::span<const ReplicaAcks> replicas, Level level,
                                 Lsn position);

// Recovery sets (safety rule P1): `set` is one if the policy, evaluated with all of `set` failed, cannot be met. So
// some member of it holds every commit that the policy ever called committed. The empty policy has none.
bool is_recovery_set(const Policy& policy, std::span<const NodeId> set);
// All minimal ones, smallest first, each sorted. At most kReplicasMax members.
std::vector<std::vector<NodeId>> minimal_recovery_sets(const Policy& policy, std::span<const Member> members);

}  // namespace slipstream::ack
