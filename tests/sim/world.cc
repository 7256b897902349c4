#include "tests/sim/world.h"

namespace slipstream::sim {

World::World(std::uint64_t seed, bool shown)
    : trace(scheduler, shown),
      random_(seed),
      harsh_random_(~seed),
      directory_random_(~seed ^ 0xd1),
      network_({scheduler, counts, trace}, random_.fork()),
      postgres_({scheduler, counts, trace}, random_.fork()) {
  const Common common{scheduler, counts, trace};
  profile = draw_profile(random_);
  for (std::size_t i = 0; i < profile.replicas; ++i) {
    members_.push_back({NodeId{static_cast<std::uint16_t>(2 + i)}, "b" + std::to_string(i + 1)});
    replicas_.push_back(
        std::make_unique<ReplicaHost>(common, random_.fork(), network_, members_.back(), profile.setups[i]));
  }
  primary_ = std::make_unique<PrimaryHost>(common, random_.fork(), network_, postgres_, members_);
  // By the seed itself, so that the worlds of the others stay what they were.
  if (seed % 8 == 0 || seed % 8 == 3 || seed % 8 == 4) make_harsh();
  profile.restored = seed % 8 == 0 || seed % 8 == 3 || seed % 8 == 7;
  profile.ahead = seed % 8 == 1 || seed % 8 == 4 || seed % 8 == 5;
  primary_->ship_written = postgres_.ahead = profile.ahead;
  if (seed % 8 == 4 || seed % 8 == 7) {
    sealed_ = true;
    primary_->port.seal("a", true, members_);
    for (auto& host : replicas_) host->port.seal(host->member.name, false, {{kPrimaryId, "a"}});
  }
  checkers_ = std::make_unique<Checkers>(common, postgres_, *primary_, replicas_);
  policy_ = profile.policies.front();
  network_.frame_bytes_max = profile.frame_bytes;
  prepare_links();
  trace.say("seed", "{}: {} replicas, policy \"{}\", loss {:.3f}, {} clients", seed, profile.replicas, policy_,
            profile.network.loss, profile.load.clients);
}

void World::prepare_links() {
  for (const ack::Member& member : members_)
    network_.link(kPrimaryId, member.id) = network_.link(member.id, kPrimaryId) = profile.network;
}

void World::make_harsh() {
  profile.harsh = true;
  profile.network.aimed = harsh_random_.one_of(std::vector{0.0, 0.002, 0.02});
  profile.network.forged = 0.01;
  profile.network.older = 0.005;
}

bool World::until(Duration limit, const std::function<bool()>& done) {
  const Instant end = scheduler.now() + limit;
  while (!trace.failed()) {
    if (done()) return true;
    if (!scheduler.run_next(end)) return done();
    checkers_->look();
    if (scheduler.now() < next_close_look_) continue;
    next_close_look_ = scheduler.now() + milliseconds(250);
    checkers_->look_closely();
    if (trace.shown())
      trace.say("seed", "{} bytes were lost, {} sent again", network_.bytes_lost, primary_->bytes_resent());
  }
  return false;
}

void World::run() {
  const Instant begin = scheduler.now();
  live();
  counts.simulated = scheduler.now() - begin;
}

// As init-standby does: its slot holds the WAL that the directory begins with.
void World::make_anew(std::size_t i) {
  ReplicaHost& host = *replicas_[i];
  host.crash();
  const Lsn begin = align_down(postgres_.slot(), kSegmentSize.value);
  const LogId log_id{{++logs_made_, random_.next()}};
  postgres_.hold_for(host.member.name, log_id, begin);
  host.make_empty(begin, log_id);
}

void World::live() {
  for (std::size_t i = 0; i < replicas_.size(); ++i) make_anew(i);
  for (auto& host : replicas_) host->start();
  postgres_.start(profile.load);
  primary_->start(policy_);
  run_for(random_.between(milliseconds(10), milliseconds(300)));
  if (profile.faults) disturb();
  if (profile.harsh) disturb_harshly();
  if (profile.restored) disturb_directories();
  run_for(profile.duration);
  stop_disturbing();
  if (trace.failed()) return;
  if (profile.end == Profile::End::kHealed)
    end_healed();
  else
    end_without_primary(profile.end == Profile::End::kCutOff);
  if (trace.failed()) return;
  checkers_->look_closely();
  look_at_repairs();
}

}  // namespace slipstream::sim
