#pragma once

#include <optional>
#include <span>
#include <string>

#include "ack/policy.h"
#include "ack/quorum.h"
#include "node/state_keeper.h"

namespace slipstream::node {

// The version that follows `latest` where `epoch` is the present one, or the next to be opened: above every version
// that was given out in an earlier epoch.
std::uint64_t next_policy_version(std::uint64_t latest, Epoch epoch);
// The epoch that a version was given out in, as far as its bits go.
Epoch epoch_of_policy_version(std::uint64_t version);

// The primary's policy: the one in force, the one to be, under which version replicas are told it, and whose logs are
// its members (Q4, Q5). Guarantees: (1) A version is durable here before it is told to anyone, and never stands for two
// contents: it begins with the epoch, and each book gives a new one. Where the state is an older copy of itself, that
// holds among the replicas that count, if renew() is called for each epoch of another life that is heard of: who was
// told by an earlier one is below, and who was told by one that opened the same epochs speaks of them.
//   (2) A changed text takes the place of the one in force only once it is durable on replicas that satisfy both; until
//   then both hold, also over restarts and further changes. (3) A log is a member only after admit().
// `*` is written out in what is told and kept, so that it means the same replicas everywhere.
class PolicyBook {
 public:
  // `text` parses against `replicas`. Starts a change when it is not what was in force. Its version is new in any case.
  PolicyBook(StateKeeper& keeper, std::span<const ack::Member> replicas, const std::string& text);

  const ack::Policy& in_force() const { return in_force_; }
  const std::optional<ack::Policy>& next() const { return next_; }
  bool mentions(NodeId id) const { return in_force_.mentions(id) || (next_ && next_->mentions(id)); }
  const PolicyRecord& told() const { return told_; }             // The latest that is durable here,
  const Marks& not_held_told() const { return not_held_told_; }  // and the marks that go with it.

  // Makes a log a member: it holds all that was acknowledged.
  void admit(const ack::Member& member, LogId log);
  // A replica holds a version that was not given out here (the state directory is older): ours becomes higher. Whether
  // it is so.
  bool outbid(std::uint64_t version);
  // What was told may have been told under a version that another life of this primary gave out: it gets a new one.
  void renew();
  // Commits from `begin` on wait for nobody, respectively do so again from `end` on (R2). Told as a new version.
  void open_mark(Lsn begin);
  void close_mark(Lsn end);
  // Every member's log is final up to here: what is marked below is held.
  void drop_marks(Lsn held_end);
  const Marks& not_held() const { return keeper_.state().not_held; }
  bool on_persisted();  // True when told() changed.
  // Ends the change if replicas that have it durably satisfy both policies. True when it did.
  bool finish_if_met(std::span<const ack::ReplicaAcks> acks);

 private:
  const PolicyRecord& latest() const {
    return keeper_.state().pending_policy ? *keeper_.state().pending_policy : keeper_.state().policy;
  }
  std::uint64_t next_version() const;
  template <class Change>
  void change_latest(Change&& change);

  StateKeeper& keeper_;
  const std::uint32_t first_incarnation_;  // The least that this life opens an epoch with.
  ack::Policy in_force_;
  std::optional<ack::Policy> next_;
  PolicyRecord told_;
  Marks not_held_told_;
  StateKeeper::Ticket ticket_ = 0;
};

}  // namespace slipstream::node
