#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ack/policy.h"
#include "node/replica_node.h"
#include "node/state_file.h"
#include "tests/sim/network.h"
#include "tests/sim/replica_disk.h"
#include "tests/sim/standby.h"

namespace slipstream::sim {

inline constexpr NodeId kPrimaryId{1};
inline constexpr std::size_t kRingBytes = 4u << 20;
inline constexpr std::size_t kRecentBytes = 64u << 10;

// When a host's process takes its turns: soon after something arrived, at its node's deadline, and once in a while.
class Turns {
 public:
  Turns(Common common, Random random, std::function<void()> turn)
      : common_(common), random_(random), turn_(std::move(turn)) {}
  void wake() { at(common_.now() + random_.between(microseconds(1), microseconds(8))); }
  void at(Instant when) {
    if (when >= planned_) return;
    planned_ = when;
    common_.scheduler.at(when, [this, plan = ++plan_] {
      if (plan != plan_) return;
      planned_ = kNever;
      turn_();
    });
  }
  void never() { ++plan_, planned_ = kNever; }
  // After a turn: at once if it had work, else at the deadline.
  void next(bool worked, Instant deadline) {
    if (worked) return wake();
    at(std::max(common_.now() + microseconds(5), std::min(deadline, common_.now() + milliseconds(2))));
  }

 private:
  Common common_;
  Random random_;
  std::function<void()> turn_;
  Instant planned_ = kNever;
  std::uint64_t plan_ = 0;
};

// A replica's host: the node as its daemon drives it, its disk, its standby.
class ReplicaHost {
 public:
  struct Setup {
    bool log_only = false;
    bool direct = true;
  };
  ReplicaHost(Common common, Random random, Network& network, ack::Member member, Setup setup);
  ~ReplicaHost();

  void start();  // The daemon, from what its directory shows. That it refuses is a violation.
  void crash();
  void lose_power();
  void make_empty(Lsn log_begin, LogId log_id);  // Initialised anew, under its name. It must be down.
  void pause(bool paused);
  bool running() const { return node != nullptr; }
  bool paused() const { return paused_; }

  std::span<const std::byte> ring(LsnRange range) const;  // Range within one turn of the ring.
  std::vector<std::byte> in_memory(Lsn end) const;        // What a feed finds there of the bytes before `end`.
  std::uint64_t life() const { return life_; }

  ack::Member member;
  Setup setup;
  Port port;
  ReplicaDisk disk;
  Standby standby;
  std::unique_ptr<node::ReplicaNode> node;
  std::function<void(const wal::Recovered&, const node::State&)> on_recovered;
  std::function<void()> on_died;
  std::function<void()> on_turn;

 private:
  struct Memory;
  void turn();
  void reopen();
  // False: it was interrupted.
  bool finish_cut(node::State& state);

  Common common_;
  Random random_;
  Turns turns_;
  std::unique_ptr<Memory> memory_;
  bool paused_ = false;
  std::uint64_t life_ = 0;
};

node::State first_replica_state(LogId log_id, Lsn log_begin, bool log_only);

}  // namespace slipstream::sim
