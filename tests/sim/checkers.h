#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "node/replica_node.h"
#include "node/state_file.h"
#include "protocol/frame.h"
#include "tests/sim/postgres.h"
#include "tests/sim/primary_host.h"
#include "tests/sim/replica_host.h"

namespace slipstream::sim {

// Looks at everything that happens and compares it with the promises of docs/guarantees.md. What is costly is kept up
// to date as it changes, so that each instant can be looked at.
//
// Per replica: `survives` is the end of the last record that a power cut at this instant would leave, by comparing what
// is durable with the server's own WAL. What was reported to the server is *claimed*: any client may have been told.
// Every set of replicas from which the product would promote without further questions must hold all that is claimed.
class Checkers {
 public:
  Checkers(Common common, Postgres& postgres, PrimaryHost& primary,
           std::vector<std::unique_ptr<ReplicaHost>>& replicas);

  void look();  // At this instant.
  // A copy of a replica's durable log in which one bit, or one sector, is another: recovery finds it.
  void look_at_damage(std::size_t replica, Random& random);
  void look_closely();  // Recovers each replica's durable log as after a power cut, and compares every byte.
  void stop_claiming_fed() { promoted_ = true; }  // From now on what is durable may be fed.

  // Whether what may be acknowledged would come back although this replica, not running, held no more than `end`.
  bool would_survive(std::size_t replica, Lsn end);
  // Its directory is about to be replaced by an older copy of itself: what it said since counts for nothing.
  void forget(std::size_t replica);
  // The end of what would be recovered from the image of a log.
  Lsn end_of(std::span<const std::byte> image, Lsn log_begin) const;

  Lsn survives(std::size_t replica) const { return shadows_[replica].survives; }
  Lsn claimed_durable() const { return claimed_durable_; }
  Lsn claimed_received() const { return claimed_received_; }
  const node::State& durable_state(std::size_t replica) const { return *shadows_[replica].state; }
  std::uint32_t promotable() const { return promotable_; }  // Bit per set of replicas.

 private:
  struct Shadow {
    std::optional<node::State> state;  // As a power cut would leave it.
    Lsn equal_end{};                   // What is durable equals the server's WAL up to here.
    Lsn survives{};
    Lsn received{};  // As acknowledged last by the process that lives.
    Lsn ring_compared{};
    Epoch epoch{};
    SessionId session{};
    LogId log_id{};
    Lsn told_durable{}, told_final{};  // Of this log.
    Lsn told_ever{};                   // The most of told_durable: an ack under way may be counted still.
    // Held by a daemon or a directory that is gone: its acknowledgements count until the next session.
    Lsn gone_received{}, gone_durable{}, gone_applied{};
    // It may hold WAL that the server lost before it was flushed, until it adopts a later epoch than this: of a
    // connection that was made after the loss.
    std::optional<Epoch> dead_tail;
  };

  void attach(std::size_t i);
  void on_frame(std::size_t i, std::span<const std::byte> bytes);
  void on_ack(std::size_t i, const protocol::FrameHeader& header, const protocol::Ack& ack);
  void on_welcome(std::size_t i, const protocol::Welcome& welcome);
  void on_submit(std::size_t i, LsnRange range);
  void on_durable(std::size_t i, LsnRange range);
  void on_state(std::size_t i);
  void on_recovered(std::size_t i, const wal::Recovered& recovered);
  void on_fed(std::size_t i, Lsn end);
  void on_report(const node::Report& report);
  void on_reported(const node::Report& report);
  void on_commit(Lsn end, ack::Level level);
  void on_died(std::size_t i);
  void on_lost(LsnRange lost);
  void on_connected();
  Lsn known_end() const { return primary_.ship_written ? postgres_.end() : postgres_.flushed_end(); }
  void on_primary_state();
  void look_at_policies();
  void on_primary_frame(std::span<const std::byte> bytes);

  bool check(Check kind, bool holds) {
    common_.counts.note(kind);
    return holds;
  }
  Lsn first_difference(std::span<const std::byte> image, LsnRange range) const;
  void look_further(std::size_t i);  // Whether more of what the replica holds is the server's by now.
  bool equal_in_ring(std::size_t i, LsnRange range) const;
  wal::Recovered recover(std::size_t i, std::span<const std::byte> image) const;
  bool held(ack::Level level, Lsn end) const;
  void find_promotable();
  bool is_promotable(std::uint32_t set) const;
  bool recovers(const node::PolicyRecord& record, std::uint32_t set) const;
  Lsn least_held(bool received) const;  // By the worst of the sets that may be promoted from.

  Common common_;
  Postgres& postgres_;
  PrimaryHost& primary_;
  std::vector<std::unique_ptr<ReplicaHost>>& replicas_;
  std::vector<Shadow> shadows_;
  Epoch primary_epoch_;                                          // As its state file has it durably.
  std::map<std::pair<LogId, Epoch>, std::uint64_t> shipped_by_;  // Life of the primary.
  std::optional<protocol::PolicyUpdate> policy_told_;            // The latest of its present life.
  std::uint64_t told_in_life_ = 0;
  node::Report last_report_;
  Lsn claimed_durable_{}, claimed_received_{};
  std::uint32_t promotable_ = 0;
  bool policies_differ_ = false;
  bool changed_ = true;
  bool promoted_ = false;
};

}  // namespace slipstream::sim
