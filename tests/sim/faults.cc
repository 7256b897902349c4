#include "tests/sim/world.h"

namespace slipstream::sim {

void World::later(Duration least, Duration most, Scheduler::Action undo) {
  scheduler.after(random_.between(least, most), [this, action = std::move(undo)]() mutable {
    if (disturbing_) action();
  });
}

void World::revive(std::size_t replica, Duration most) {
  later(milliseconds(1), most, [this, replica] { replicas_[replica]->start(); });
}

void World::disturb() {
  if (!disturbing_) return;
  const std::uint64_t kind = random_.below(100);
  if (kind < 30)
    disturb_network();
  else if (kind < 60)
    disturb_replica();
  else if (kind < 75)
    disturb_storage();
  else if (kind < 90)
    disturb_primary();
  else
    disturb_server();
  later(milliseconds(1), profile.between_faults * 2, [this] { disturb(); });
}

void World::disturb_network() {
  const NodeId replica = random_.one_of(members_).id;
  const bool outward = random_.chance(0.5);
  const NodeId from = outward ? kPrimaryId : replica, to = outward ? replica : kPrimaryId;
  switch (random_.below(4)) {
    case 0:
    case 1:  // One way, or both.
      counts.note(Fault::kPartition);
      trace.note("network", "cut", from.value, to.value);
      network_.link(from, to).cut = true;
      if (random_.chance(0.4)) network_.link(to, from).cut = true;
      later(milliseconds(1), milliseconds(random_.chance(0.2) ? 3000 : 400), [this, from, to] {
        trace.note("network", "joined", from.value, to.value);
        network_.link(from, to).cut = network_.link(to, from).cut = false;
      });
      break;
    case 2: {
      Link& link = network_.link(from, to);
      link.loss = 0.3, link.reorder = 0.3, link.replay = 0.02, link.burst = 0.01, link.duplicate = 0.1;
      link.corruption = 0.02, link.truncation = 0.01;
      trace.note("network", "bad", from.value, to.value);
      later(milliseconds(1), milliseconds(500), [this, from, to] { network_.link(from, to) = profile.network; });
      break;
    }
    default:
      if (random_.chance(0.5)) {
        counts.note(Fault::kSmallerFrames);
        network_.frame_bytes_max = random_.one_of(std::vector<std::size_t>{1472, 1428, 2048, 8972});
      } else {
        primary_->port.set_full(random_.chance(0.5) ? 0.5 : 0);
        for (auto& host : replicas_) host->port.set_full(random_.chance(0.3) ? 0.5 : 0);
      }
  }
}

// What only harsh worlds have. It draws from its own generator.
void World::disturb_harshly() {
  if (!disturbing_) return;
  const std::size_t i = harsh_random_.below(replicas_.size());
  for (int n = 0; n < 4; ++n) checkers_->look_at_damage(i, harsh_random_);
  replicas_[i]->disk.in_parts = harsh_random_.chance(0.5) ? 0.1 : 0;
  if (harsh_random_.chance(0.3))
    replicas_[i]->disk.trap.set(harsh_random_.from_to(1, 40), [this, i, power = harsh_random_.chance(0.5)] {
      power ? replicas_[i]->lose_power() : replicas_[i]->crash();
      if (disturbing_) revive(i, milliseconds(150));
    });
  const NodeId replica = members_[i].id;
  Link& link = network_.link(kPrimaryId, replica);
  if (harsh_random_.chance(0.5))
    link.bytes_per_second = harsh_random_.from_to(500'000, 20'000'000);
  else
    link.frame_bytes_max = harsh_random_.from_to(600, 1500);
  trace.note("network", "narrow", link.bytes_per_second, link.frame_bytes_max);
  const auto soon = [this](Duration most, Scheduler::Action action) {
    scheduler.after(harsh_random_.between(milliseconds(1), most), std::move(action));
  };
  soon(milliseconds(600), [this, replica] {
    Link& same = network_.link(kPrimaryId, replica);
    same.bytes_per_second = 0, same.frame_bytes_max = 0;
  });
  soon(milliseconds(1200), [this] { disturb_harshly(); });
}

// Now, or while the replica writes.
void World::soon(std::size_t replica, std::function<void()> fault) {
  if (random_.chance(0.3)) return fault();
  replicas_[replica]->disk.at_next_write = [this, fault = std::move(fault)] {
    if (disturbing_) fault();
  };
}

// As the daemon does once a second: what neither the standby nor recovery needs is removed.
void World::remove_old_segments(std::size_t replica) {
  ReplicaHost& host = *replicas_[replica];
  if (!host.running()) return;
  host.node->raise_log_begin(host.setup.log_only ? postgres_.flushed_end() : host.standby.restart_point());
  later(milliseconds(10), milliseconds(100), [this, replica, life = host.life()] {
    ReplicaHost& same = *replicas_[replica];
    if (!same.running() || same.life() != life || same.node->log_begin() == kOrigin) return;
    counts.note(Fault::kOldSegmentsGone);
    same.disk.remove_below(same.node->log_begin());
  });
}

bool World::may_lose_directory() const {
  for (std::size_t i = 0; i < replicas_.size(); ++i)
    if (!replicas_[i]->running() || checkers_->durable_state(i).policy.version == 0) return false;
  for (std::size_t i = 0; i < replicas_.size(); ++i)
    if ((restored_logs_ >> i & 1) != 0 &&
        checkers_->survives(i) < std::max(checkers_->claimed_durable(), checkers_->claimed_received()))
      return false;
  return true;  // Every log was met since the last was lost, and has again what it lost.
}

void World::disturb_replica() {
  const std::size_t i = random_.below(replicas_.size());
  ReplicaHost& host = *replicas_[i];
  if (!host.running()) return host.start();
  const Duration down = milliseconds(random_.chance(0.2) ? 2000 : 150);
  switch (random_.below(10)) {
    case 0:
    case 1:
    case 2:
      counts.note(Fault::kReplicaCrash);
      soon(i, [this, i, down] {
        replicas_[i]->crash();
        revive(i, down);
      });
      break;
    case 3:
    case 4:
    case 5:
      counts.note(Fault::kReplicaPowerLoss);
      soon(i, [this, i, down] {
        replicas_[i]->lose_power();
        revive(i, down);
      });
      break;
    case 6:
    case 7:
      if (host.paused()) break;
      counts.note(Fault::kReplicaPause);
      host.pause(true);
      later(milliseconds(1), down, [this, i] { replicas_[i]->pause(false); });
      break;
    case 8:
      counts.note(Fault::kStandbyRestart);
      host.standby.restart();
      break;
    default:
      if (!may_lose_directory()) break;
      counts.note(Fault::kEmptyDirectory);
      make_anew(i);
      revive(i, down);
  }
}

void World::disturb_storage() {
  if (!profile.storage_faults) return;
  const std::size_t i = random_.below(replicas_.size());
  ReplicaDisk& disk = replicas_[i]->disk;
  const auto undo = [this, i] {
    replicas_[i]->disk.stall = {}, replicas_[i]->disk.no_space = false, replicas_[i]->disk.error = 0;
    if (!replicas_[i]->running()) replicas_[i]->start();
  };
  switch (random_.below(6)) {
    case 0:
    case 1:
      counts.note(Fault::kSlowDisk);
      disk.stall = milliseconds(static_cast<std::int64_t>(random_.from_to(1, 50)));
      later(milliseconds(1), milliseconds(600), undo);
      break;
    case 2:
      disk.no_space = true;
      later(milliseconds(1), milliseconds(800), undo);
      break;
    case 3:
      disk.error = 0.1;
      later(milliseconds(1), milliseconds(100), undo);
      break;
    case 4:
      primary_->disk.spoiled = 0.2;
      later(milliseconds(1), milliseconds(100), [this] { primary_->disk.spoiled = 0; });
      break;
    default:
      primary_->disk.error = 0.1;
      later(milliseconds(1), milliseconds(50), [this] { primary_->disk.error = 0; });
  }
}

void World::disturb_primary() {
  if (!primary_->running()) return primary_->start(policy_);
  const auto restart = [this](Duration most) {
    if (profile.policies.size() > 1 && random_.chance(0.5)) {
      const std::string before = policy_;
      policy_ = random_.one_of(profile.policies);
      if (policy_ != before) counts.note(Fault::kPolicyChange);
    }
    later(milliseconds(1), most, [this] { primary_->start(policy_); });
  };
  switch (random_.below(5)) {
    case 0:
      counts.note(Fault::kPrimaryCrash);
      primary_->crash();
      if (profile.policies.size() == 1 && random_.chance(0.1)) {
        counts.note(Fault::kPrimaryStateLost);
        primary_->lose_state();
      }
      restart(milliseconds(150));
      break;
    case 1:
      counts.note(Fault::kPrimaryPowerLoss);
      soon_in_server([this, restart] {
        primary_->lose_power();
        postgres_.crash();
        restart(milliseconds(300));
        later(milliseconds(1), milliseconds(300), [this] { postgres_.start_again(); });
      });
      break;
    case 2:
      if (primary_->paused()) break;
      counts.note(Fault::kPrimaryPause);
      primary_->pause(true);
      later(milliseconds(1), milliseconds(random_.chance(0.2) ? 1500 : 100), [this] { primary_->pause(false); });
      break;
    case 3:
      counts.note(Fault::kConnectionLost);
      primary_->lose_connection();
      break;
    default:
      postgres_.checkpoint();
      for (std::size_t i = 0; i < replicas_.size(); ++i) remove_old_segments(i);
  }
}

// Now, or while a commit is being written.
void World::soon_in_server(std::function<void()> fault) {
  if (random_.chance(0.2)) return fault();
  postgres_.at_next_commit = [this, fault = std::move(fault)] {
    if (disturbing_) fault();
  };
}

void World::disturb_server() {
  if (!postgres_.running()) return postgres_.start_again();
  if (random_.chance(0.7)) {
    counts.note(Fault::kServerCrash);
    return soon_in_server([this] {
      postgres_.crash();
      later(milliseconds(1), milliseconds(300), [this] { postgres_.start_again(); });
    });
  }
  counts.note(Fault::kServerStop);
  postgres_.stop_in_order();
  later(milliseconds(120), milliseconds(400), [this] { postgres_.start_again(); });
}

void World::stop_disturbing() {
  disturbing_ = false;
  primary_->disk.trap.clear();
  for (auto& host : replicas_) {
    host->disk.trap.clear();
    host->disk.in_parts = 0;
  }
  trace.note("seed", "disturbs no more");
}

}  // namespace slipstream::sim
