#include "tests/sim/world.h"

// What befalls state directories. It draws from its own generator, so that the worlds without it stay what they were.
namespace slipstream::sim {
namespace {

constexpr std::size_t kCopies = 6;

// Whether both are of one owner's term: a copy from before it was claimed would be refused by every replica.
bool same_owner(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto one = node::decode_state(a, "copy"), other = node::decode_state(b, "state");
  return one && other && one->own_epoch.term == other->own_epoch.term && one->identity == other->identity;
}

}  // namespace

void World::disturb_directories() {
  if (!disturbing_) return;
  if (primary_copies_.size() == kCopies)
    primary_copies_.erase(primary_copies_.begin() + static_cast<std::ptrdiff_t>(directory_random_.below(kCopies)));
  primary_copies_.push_back(primary_->disk.state.visible());
  if (directory_random_.chance(0.3)) restore_primary();
  if (directory_random_.chance(0.5)) trap_primary();
  const std::size_t i = directory_random_.below(replicas_.size());
  replica_copies_.resize(replicas_.size());
  if (directory_random_.chance(0.4))
    restore_replica(i);
  else if (directory_random_.chance(0.5))
    replica_copies_[i] = replicas_[i]->disk.copy();
  scheduler.after(directory_random_.between(milliseconds(1), milliseconds(700)), [this] { disturb_directories(); });
}

// Under one policy: a copy from before a change knows of none, and would count by the old one alone (docs/guarantees).
void World::restore_primary() {
  if (profile.policies.size() > 1) return;
  const auto& copy = directory_random_.one_of(primary_copies_);
  if (!same_owner(copy, primary_->disk.state.visible())) return;
  counts.note(Fault::kPrimaryRestored);
  primary_->crash();
  primary_->restore(copy);
  scheduler.after(directory_random_.between(milliseconds(1), milliseconds(150)), [this] {
    if (disturbing_) primary_->start(policy_);
  });
}

// Its process, or the power of its whole host, is gone at a step of keeping its state.
void World::trap_primary() {
  primary_->disk.trap.set(directory_random_.from_to(1, 8), [this, power = directory_random_.chance(0.5)] {
    power ? primary_->lose_power() : primary_->crash();
    if (power) postgres_.crash();
    scheduler.after(directory_random_.between(milliseconds(1), milliseconds(150)), [this] {
      if (!disturbing_) return;
      primary_->start(policy_);
      postgres_.start_again();
    });
  });
}

// Its state file alone, or the log with it. A copy that has forgotten a promise, a policy or what was removed is
// outside of the budget, and so is one without which what was acknowledged would be lost: a log that lost what it
// acknowledged.
void World::restore_replica(std::size_t i) {
  const ReplicaDisk::Copy& copy = replica_copies_[i];
  ReplicaHost& host = *replicas_[i];
  if (copy.state.empty()) return;
  const auto old = node::decode_state(copy.state, "copy");
  CHECK(old.has_value());
  const bool running = host.running();
  host.crash();
  const node::State& now = checkers_->durable_state(i);
  const bool same =
      old->log_id == now.log_id && old->promise.epoch.term == now.promise.epoch.term && old->policy == now.policy;
  if (same && directory_random_.chance(0.5)) {
    if (checkers_->would_survive(i, checkers_->end_of(copy.log, old->log_begin))) {
      counts.note(Fault::kReplicaRestored);
      trace.note(host.member.name, "is restored", old->final_end.value);
      checkers_->forget(i);
      host.disk.restore(copy);
      restored_logs_ |= 1u << i;
    }
  } else if (same && old->log_begin == now.log_begin) {
    counts.note(Fault::kReplicaStateRestored);
    trace.note(host.member.name, "its state is restored", old->final_end.value);
    checkers_->forget(i);
    host.disk.restore_state(copy);
    restored_states_ |= 1u << i;
  }
  if (running) revive(i, milliseconds(150));
}

}  // namespace slipstream::sim
