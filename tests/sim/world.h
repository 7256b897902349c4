#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/checkers.h"
#include "tests/sim/network.h"
#include "tests/sim/postgres.h"
#include "tests/sim/primary_host.h"
#include "tests/sim/profile.h"
#include "tests/sim/replica_host.h"

namespace slipstream::sim {

// A cluster of production nodes in a simulated world; everything follows from the seed.
class World {
 public:
  World(std::uint64_t seed, bool shown);

  // The whole life: a start, faults, an end. Then trace.violation() says what was wrong, if anything was.
  void run();

  Scheduler scheduler;
  Counts counts;
  Trace trace;
  Profile profile;

 private:
  void live();
  // Events until `done` or `limit` has passed. Whether it was done.
  bool until(Duration limit, const std::function<bool()>& done);
  void run_for(Duration time) {
    until(time, [] { return false; });
  }
  void prepare_links();
  void make_harsh();

  // Faults (faults.cc): each undoes itself after some time.
  void disturb();
  void disturb_network();
  void disturb_replica();
  void disturb_storage();
  void disturb_primary();
  void disturb_server();
  void disturb_harshly();
  void disturb_directories();
  void restore_primary();
  void trap_primary();
  void restore_replica(std::size_t replica);
  void later(Duration least, Duration most, Scheduler::Action undo);
  void soon(std::size_t replica, std::function<void()> fault);
  void soon_in_server(std::function<void()> fault);
  void remove_old_segments(std::size_t replica);
  void revive(std::size_t replica, Duration most);
  bool may_lose_directory() const;

  // Ends (ending.cc).
  void stop_disturbing();
  void look_at_repairs();
  void end_healed();
  void make_anew(std::size_t replica);
  void make_anew_whose_wal_is_gone();
  void end_without_primary(bool cut_off);
  bool caught_up() const;
  std::string what_is_missing() const;
  bool fence(const std::vector<std::size_t>& members, std::size_t candidate, std::uint32_t term, bool supersede);
  node::Evidence evidence_of(std::size_t replica) const;
  std::vector<node::Evidence> evidence_of(const std::vector<std::size_t>& members) const;
  bool is_recovery_set(const std::vector<std::size_t>& members) const;
  void promote(std::vector<std::size_t> members);

  Random random_;
  Random harsh_random_;
  Random directory_random_;
  Network network_;
  Postgres postgres_;
  std::vector<ack::Member> members_;
  std::vector<std::unique_ptr<ReplicaHost>> replicas_;
  std::unique_ptr<PrimaryHost> primary_;
  std::unique_ptr<Checkers> checkers_;
  std::string policy_;
  bool disturbing_ = true;
  bool sealed_ = false;
  std::uint64_t logs_made_ = 0;
  std::vector<std::vector<std::byte>> primary_copies_;  // Of its state file, from any time before.
  std::vector<ReplicaDisk::Copy> replica_copies_;       // Of one directory each.
  std::uint32_t restored_logs_ = 0;                     // Bit per replica: its log was once an older one.
  std::uint32_t restored_states_ = 0;                   // Its state file alone.
  Instant next_close_look_{};
};

}  // namespace slipstream::sim
