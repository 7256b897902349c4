#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app/joined_replicas.h"
#include "node/primary_node.h"
#include "tests/sim/postgres.h"
#include "tests/sim/replica_host.h"

namespace slipstream::sim {

// The primary's daemon's disk: the server's WAL to read, its own state file to keep.
class PrimaryDisk : public node::Disk {
 public:
  PrimaryDisk(Common common, Random random, Postgres& postgres)
      : common_(common), random_(random), short_random_(~Random(random).next()), postgres_(postgres) {}

  bool submit_read(const node::ReadOp& op) override;
  bool submit_write(const node::WriteOp&) override { return false; }
  bool submit_persist(node::PersistOp&& op) override;
  bool submit_history(node::KeepHistoryOp&&) override { return false; }
  std::size_t complete(std::span<node::DiskDone> done) override;
  void process_died();

  StateFile state;
  std::function<void()> on_state_durable;
  Trap trap;
  double error = 0;    // That a read fails, behind the bytes that came first.
  double spoiled = 0;  // That a read before confirmation gives other bytes.
  std::function<void()> wake;

 private:
  void done(std::uint32_t id, node::DiskStatus status);
  bool step() { return trap.step(common_, "primary", Fault::kPrimaryTrap); }
  void finish_read(const node::ReadOp& op);
  void read_file(const node::ReadOp& op);

  Common common_;
  Random random_;
  Random short_random_;  // Its own, so that the others' draws stay what they were.
  Postgres& postgres_;
  std::uint64_t life_ = 0;
  std::uint64_t losses_ = 0;  // Of the server's, seen.
  Lsn shown_end_{};           // What was written once stays so.
  std::deque<node::DiskDone> done_;
};

// The primary's host but for the server: the node as its daemon drives it.
class PrimaryHost {
 public:
  PrimaryHost(Common common, Random random, Network& network, Postgres& postgres, std::vector<ack::Member> replicas);

  void start(const std::string& policy);
  void crash();
  void lose_power();
  void lose_state();  // Its directory. It must be down; it comes back as another owner, of a higher term.
  // An older copy of its state file takes the present one's place. It must be down.
  void restore(std::vector<std::byte> copy);
  void pause(bool paused);
  bool running() const { return node != nullptr; }
  std::uint64_t life() const { return life_; }
  bool paused() const { return paused_; }
  bool ship_written = false;
  void lose_connection();              // Made again soon.
  std::uint64_t bytes_resent() const;  // By all its lives.

  Port port;
  PrimaryDisk disk;
  Upstream upstream;
  std::unique_ptr<node::PrimaryNode> node;
  std::string policy;
  std::function<void()> on_connected;                  // To the server as it is now.
  std::function<void(const node::Report&)> on_report;  // Before it is on its way.
  Lsn confirmed_end{};                                 // What was streamed to this daemon over this connection.
  bool gone = false;

 private:
  void turn();
  void connect_later(Duration most);
  void look_for_joined();

  Common common_;
  Random random_;
  Postgres& postgres_;
  std::vector<ack::Member> replicas_;
  Turns turns_;
  std::vector<std::byte> ring_, catch_up_;
  bool paused_ = false;
  std::uint64_t life_ = 0;
  std::uint32_t term_ = 0;
  std::uint64_t resent_before_ = 0;
  app::JoinedReplicas joined_;
  Instant looked_{};
};

}  // namespace slipstream::sim
