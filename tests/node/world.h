#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "node/primary_node.h"
#include "node/replica_node.h"
#include "node/step.h"
#include "protocol/frame.h"
#include "wal/wal_writer.h"

// A small world for the nodes: one primary, its replicas, memory for disks, frames handed over directly, a clock moved
// by hand.
namespace slipstream::node {

constexpr std::size_t kRingBytes = 4u << 20;
constexpr SystemId kSystem{0x1122334455667788};
constexpr ByteCount kSegmentSize{std::uint64_t{1} << 20};
constexpr Lsn kLogBegin{std::uint64_t{3} << 20};  // The third segment's start.
constexpr NodeId kPrimaryId{1};
constexpr Identity kIdentity{{11, 22}};

// Frames on their way. `drop` says which are lost.
class Network {
 public:
  using Wire = std::vector<std::byte>;
  std::function<bool(NodeId from, NodeId to, const protocol::Frame&)> drop;
  std::function<void(NodeId from, NodeId to, const protocol::Frame&)> seen;

  std::function<void(NodeId from, NodeId to, const Wire&)> carried;  // What was not dropped.
  // What was not dropped either, taken out of the queue: true; it may be injected later, or twice.
  std::function<bool(NodeId from, NodeId to, const Wire&)> detain;

  void send(NodeId from, NodeId to, Wire bytes);
  void inject(NodeId to, Wire bytes) { queues_[to].push_back(std::move(bytes)); }
  std::vector<Wire> take(NodeId to) { return std::exchange(queues_[to], {}); }

 private:
  std::map<NodeId, std::vector<Wire>> queues_;
};

class FakePort : public Port {
 public:
  FakePort(Network& network, NodeId self) : network_(network), self_(self) {}
  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId) override { return connected ? 64 : 0; }
  void send(NodeId peer, const OutFrame& frame) override;
  void flush() override {}
  std::size_t frame_bytes_max(NodeId) const override { return frame_bytes; }
  bool connected = true;
  std::size_t frame_bytes = 1472;

 private:
  Network& network_;
  NodeId self_;
  std::deque<Network::Wire> waiting_;
  std::vector<Network::Wire> held_;
};

// Bytes from `begin` on; reads, writes and persists take effect when they complete, at the next turn unless held.
class FakeDisk : public Disk {
 public:
  explicit FakeDisk(Lsn begin) : begin_(begin) {}
  bool submit_read(const ReadOp& op) override;
  bool submit_write(const WriteOp& op) override;
  bool submit_persist(PersistOp&& op) override;
  bool submit_history(KeepHistoryOp&& op) override;
  std::size_t complete(std::span<DiskDone> done) override;

  // The process or the machine died: what was under way happened or not, as `happened` says.
  void crash(const std::function<bool()>& happened = [] { return false; });

  bool hold_writes = false, hold_persists = false, no_space = false;
  int persists_let_through = 0;      // That many complete although held.
  wal::WalWriter* source = nullptr;  // Reads come from here if set (the primary's pg_wal), else from what was written.
  Lsn gone_below{};                  // Segments below are missing.
  std::vector<std::byte> bytes;      // From begin on: what survives a power cut.
  std::vector<std::byte> state;      // The state file.
  std::map<std::uint32_t, std::string> histories;
  std::uint64_t persists = 0;
  Lsn begin() const { return begin_; }

 private:
  struct Op {
    DiskDone done;
    enum class Kind { kRead, kWrite, kPersist } kind;
    std::function<void()> effect;
  };
  Lsn begin_;
  std::deque<Op> ops_;
};

class FakeUpstream : public Upstream {
 public:
  bool next_event(UpstreamEvent& event) override;
  void report(const Report& report) override;
  void advance_slot(Lsn end) override { slot = end; }
  void feedback(const StandbyFeedback& told) override { standby_feedback = told; }
  void reconnect() override { ++reconnects; }

  std::deque<UpstreamEvent> events;
  Report last;
  std::vector<Report> reports;  // Each change.
  Lsn slot;
  StandbyFeedback standby_feedback;
  int reconnects = 0;
};

class FakeStandby : public Standby {
 public:
  bool next_event(StandbyEvent& event) override;
  void release(const Release& release) override { last = release; }

  std::deque<StandbyEvent> events;
  Release last;
  bool replays = true;  // Flushes and applies at once what it is fed.

 private:
  Lsn replied_;
};

class ReplicaHost {
 public:
  ReplicaHost(Network& network, ack::Member member, bool log_only, Instant now);
  void start(Instant now);  // From what its disk holds.
  void stop() {
    disk.crash();
    node.reset();
  }
  bool step_once(Instant now);
  State durable_state() const;
  ReplicaSelfView view(Instant now) const { return node->snapshot(now).replica; }

  ack::Member member;
  bool log_only;
  FakePort port;
  FakeDisk disk;
  FakeStandby standby;
  std::unique_ptr<ReplicaNode> node;

 private:
  struct Memory;
  std::shared_ptr<Memory> memory_;
};

class World {
 public:
  // Replicas b1, b2, … with numbers 2, 3, …
  explicit World(std::string policy, std::size_t replicas = 2);

  // The database.
  void connect();  // A replication connection, from the page of what is flushed.
  void lose_connection();
  Lsn commit(std::size_t payload_bytes = 200);  // Writes a record and flushes it; returns its end.
  void write(std::size_t records, std::size_t payload_bytes);
  void flush();                               // Streams what was written and not yet streamed.
  std::function<void(UpstreamChunk&)> spoil;  // May change a chunk on its way.

  void start_primary();  // From its state file.
  void stop_primary() {
    primary_disk.crash();
    primary.reset();
  }
  bool turn();  // One step of everything, 100 us later. Whether anything was done.
  // As turn(), and where nothing was done time goes on at once to the next deadline, 100 ms at most.
  void jump();
  void run(Duration duration);
  // Turns until `done`, at most for `limit`. Whether it came to pass.
  bool until(const std::function<bool()>& done, Duration limit = seconds(2));

  PrimaryView view() const { return primary->snapshot(now).primary; }
  const ReplicaView& replica_view(std::size_t index);
  bool streaming(std::size_t index) { return replica_view(index).state == "streaming" && replica_view(index).counts; }
  bool all_streaming();
  ReplicaHost& replica(std::size_t index) { return *replicas[index]; }
  State primary_state() const;
  // Whether a replica's disk holds the primary's WAL from `begin` to `end`.
  bool disk_holds(std::size_t index, Lsn end, Lsn begin = kLogBegin);

  std::string policy;
  std::optional<ByteCount> slow_backlog;  // From the primary's next start on.
  Network network;
  wal::WalWriter wal{kLogBegin, kSegmentSize, kSystem};
  FakeDisk primary_disk{kLogBegin};
  FakePort primary_port{network, kPrimaryId};
  FakeUpstream upstream;
  std::unique_ptr<PrimaryNode> primary;
  std::vector<ack::Member> members;
  std::vector<std::unique_ptr<ReplicaHost>> replicas;
  Instant now{1'000'000'000};
  Lsn streamed_end{};
  bool connected = false;
  Identity identity = kIdentity;

 private:
  static constexpr std::size_t kCatchUpBytes = 4u << 20;
  std::unique_ptr<std::byte[]> ring_ = std::make_unique_for_overwrite<std::byte[]>(kRingBytes);
  std::unique_ptr<std::byte[]> catch_up_ = std::make_unique_for_overwrite<std::byte[]>(kCatchUpBytes);
  PrimaryView last_view_;
};

State first_primary_state(Identity identity);
State first_replica_state(const ack::Member& member, bool log_only);

}  // namespace slipstream::node
