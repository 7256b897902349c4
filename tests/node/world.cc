#include "tests/node/world.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "wal/recovery.h"

namespace slipstream::node {

// ---- Network

void Network::send(NodeId from, NodeId to, Wire bytes) {
  protocol::Frame frame;
  EXPECT_EQ(protocol::decode(bytes, frame), protocol::Verdict::kAccepted);
  if (seen) seen(from, to, frame);
  if (drop && drop(from, to, frame)) return;
  if (carried) carried(from, to, bytes);
  if (detain && detain(from, to, bytes)) return;
  queues_[to].push_back(std::move(bytes));
}

std::size_t FakePort::receive(std::span<protocol::Arrival> frames) {
  for (auto& wire : network_.take(self_))
    if (connected) waiting_.push_back(std::move(wire));
  held_.clear();
  while (held_.size() < frames.size() && !waiting_.empty()) {
    held_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = protocol::Arrival(held_[i]);
  return held_.size();
}

void FakePort::send(NodeId peer, const OutFrame& frame) {
  if (!connected) return;
  Network::Wire bytes(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
  bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
  EXPECT_LE(bytes.size(), frame_bytes_max(peer));
  network_.send(self_, peer, std::move(bytes));
}

// ---- Disk

bool FakeDisk::submit_read(const ReadOp& op) {
  for (const Op& other : ops_) EXPECT_NE(other.done.id, op.id);
  const LsnRange range = op.range;
  const std::span<std::byte> into = op.into;
  EXPECT_EQ(into.size(), range.size().value);
  EXPECT_EQ(range.begin.value / kSegmentSize.value, (range.end.value - 1) / kSegmentSize.value);
  if (range.begin < gone_below) {
    ops_.push_back({{op.id, DiskStatus::kMissing}, Op::Kind::kRead, [] {}});
    return true;
  }
  ops_.push_back({{op.id, DiskStatus::kOk}, Op::Kind::kRead, [this, range, into] {
                    if (source) {
                      EXPECT_LE(range.end, source->end());
                      std::ranges::copy(source->at(range), into.begin());
                      return;
                    }
                    const auto from = static_cast<std::size_t>((range.begin - begin_).value);
                    EXPECT_LE(from + into.size(), bytes.size());
                    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(from), into.size(), into.begin());
                  }});
  return true;
}

bool FakeDisk::submit_write(const WriteOp& op) {
  EXPECT_EQ(op.at.value % 4096, 0u);
  EXPECT_EQ(op.bytes.size() % 4096, 0u);
  EXPECT_EQ(op.at.value / kSegmentSize.value, (op.at.value + op.bytes.size() - 1) / kSegmentSize.value);
  for (const Op& other : ops_) EXPECT_NE(other.done.id, op.id);
  const std::size_t from = (op.at - begin_).value;
  const std::span<const std::byte> content = op.bytes;
  ops_.push_back({{op.id, no_space ? DiskStatus::kNoSpace : DiskStatus::kOk},
                  Op::Kind::kWrite,
                  [this, from, content, full = no_space] {
                    if (full) return;
                    if (bytes.size() < from + content.size()) bytes.resize(from + content.size());
                    std::ranges::copy(content, bytes.begin() + static_cast<std::ptrdiff_t>(from));
                  }});
  return true;
}

bool FakeDisk::submit_persist(PersistOp&& op) {
  for (const Op& other : ops_) EXPECT_NE(other.done.id, op.id);
  ops_.push_back({{op.id, DiskStatus::kOk}, Op::Kind::kPersist, [this, content = std::move(op.content)] {
                    state = content, ++persists;
                  }});
  return true;
}

bool FakeDisk::submit_history(KeepHistoryOp&& op) {
  ops_.push_back(
      {{op.id, DiskStatus::kOk},
       Op::Kind::kPersist,
       [this, timeline = op.timeline.value, content = std::move(op.content)] { histories[timeline] = content; }});
  return true;
}

std::size_t FakeDisk::complete(std::span<DiskDone> done) {
  std::size_t count = 0;
  for (auto it = ops_.begin(); it != ops_.end() && count < done.size();) {
    const bool held_persist = it->kind == Op::Kind::kPersist && hold_persists && persists_let_through == 0;
    if (held_persist || (it->kind == Op::Kind::kWrite && hold_writes)) {
      ++it;
      continue;
    }
    if (it->kind == Op::Kind::kPersist && hold_persists) --persists_let_through;
    it->effect();
    done[count++] = it->done;
    it = ops_.erase(it);
  }
  return count;
}

void FakeDisk::crash(const std::function<bool()>& happened) {
  for (const Op& op : ops_)
    if (op.kind != Op::Kind::kRead && happened()) op.effect();
  ops_.clear();
}

// ---- PostgreSQL

bool FakeUpstream::next_event(UpstreamEvent& event) {
  if (events.empty()) return false;
  event = std::move(events.front());
  events.pop_front();
  return true;
}

void FakeUpstream::report(const Report& report) {
  if (report == last) return;
  last = report;
  reports.push_back(report);
}

bool FakeStandby::next_event(StandbyEvent& event) {
  if (events.empty() && replays && last.fed_end > replied_) {
    replied_ = last.fed_end;
    event = StandbyReply{replied_, replied_, replied_};
    return true;
  }
  if (events.empty()) return false;
  event = std::move(events.front());
  events.pop_front();
  return true;
}

// ---- Replica

struct ReplicaHost::Memory {
  alignas(4096) std::array<std::byte, kRingBytes> ring;
  std::array<std::byte, 256 * 1024> compare;
};

State first_replica_state(const ack::Member& member, bool log_only) {
  State state;
  state.role = State::Role::kReplica;
  state.system = kSystem;
  state.segment_size = kSegmentSize;
  state.timeline = TimelineId{1};
  state.log_id = LogId{{7, member.id.value}};
  state.log_begin = state.scan_begin = kLogBegin;
  state.log_only = log_only;
  return state;
}

ReplicaHost::ReplicaHost(Network& network, ack::Member m, bool is_log_only, Instant now)
    : member(std::move(m)), log_only(is_log_only), port(network, member.id), disk(kLogBegin) {
  disk.state = encode(first_replica_state(member, log_only));
  if (!log_only) standby.events.push_back(StandbyConnected{kLogBegin, "standby"});
  start(now);
}

State ReplicaHost::durable_state() const {
  const auto state = decode_state(disk.state, member.name);
  EXPECT_TRUE(state.has_value());
  return *state;
}

void ReplicaHost::start(Instant now) {
  struct Source : wal::SegmentSource {
    const FakeDisk* disk;
    std::size_t read(Lsn at, std::span<std::byte> out) override {
      const std::size_t from = (at - disk->begin()).value;
      if (from >= disk->bytes.size()) return 0;
      const std::size_t count = std::min(out.size(), disk->bytes.size() - from);
      std::copy_n(disk->bytes.begin() + static_cast<std::ptrdiff_t>(from), count, out.begin());
      return count;
    }
  } source;
  source.disk = &disk;
  const State state = durable_state();
  const auto recovered = wal::recover(
      source, wal::SegmentLayout(state.segment_size), state.scan_begin,
      state.scan_begin_is_record ? wal::Scanner::Start::kRecord : wal::Scanner::Start::kPage, {state.system, {}});
  memory_ = std::make_shared_for_overwrite<Memory>();
  const Lsn block = align_down(recovered.durable_end, 4096);
  const auto filled = static_cast<std::size_t>((recovered.durable_end - block).value);
  source.read(block, std::span(memory_->ring).subspan(block.value & (kRingBytes - 1), filled));
  node = std::make_unique<ReplicaNode>(ReplicaOptions{member.id, member.name, kPrimaryId, log_only}, state, recovered,
                                       memory_->ring, memory_->compare, now);
}

bool ReplicaHost::step_once(Instant now) { return node && step(*node, port, disk, standby, kPrimaryId, now); }

// ---- World

State first_primary_state(Identity identity) {
  State state;
  state.role = State::Role::kPrimary;
  state.own_epoch = {1, 0};
  state.identity = identity;
  return state;
}

World::World(std::string policy_text, std::size_t count) : policy(std::move(policy_text)) {
  for (std::size_t i = 0; i < count; ++i)
    members.push_back({NodeId{static_cast<std::uint16_t>(2 + i)}, "b" + std::to_string(i + 1)});
  for (const auto& member : members) replicas.push_back(std::make_unique<ReplicaHost>(network, member, false, now));
  primary_disk.source = &wal;
  primary_disk.state = encode(first_primary_state(identity));
  write(3, 100);
  start_primary();
  connect();
}

State World::primary_state() const {
  const auto state = decode_state(primary_disk.state, "primary");
  EXPECT_TRUE(state.has_value());
  return *state;
}

void World::start_primary() {
  PrimaryOptions options;
  options.id = kPrimaryId;
  options.name = "a";
  options.replicas = members;
  options.policy = policy;
  options.slow_backlog = slow_backlog;
  primary = std::make_unique<PrimaryNode>(options, primary_state(), std::span(ring_.get(), kRingBytes),
                                          std::span(catch_up_.get(), kCatchUpBytes), now);
}

void World::connect() {
  streamed_end = align_down(wal.end(), wal::kPageBytes);
  upstream.events.push_back(
      UpstreamConnected{kSystem, TimelineId{1}, kSegmentSize, 150020, streamed_end, wal.end(), ""});
  upstream.events.push_back(UpstreamSyncNames{true, "slipstream"});
  connected = true;
  flush();
}

void World::lose_connection() {
  upstream.events.push_back(UpstreamLost{});
  connected = false;
}

Lsn World::commit(std::size_t payload_bytes) {
  const Lsn end = wal.record(payload_bytes);
  flush();
  return end;
}

void World::write(std::size_t records, std::size_t payload_bytes) {
  for (std::size_t i = 0; i < records; ++i) wal.record(payload_bytes, static_cast<std::uint8_t>(i));
}

void World::flush() {
  if (!connected) return;
  while (streamed_end < wal.end()) {
    const Lsn end = std::min(
        {wal.end(), streamed_end + ByteCount{128 * 1024}, align_down(streamed_end, 1u << 20) + ByteCount{1u << 20}});
    UpstreamChunk chunk{{streamed_end, end}, xxh3_64(wal.at({streamed_end, end}))};
    if (spoil) spoil(chunk);
    upstream.events.push_back(chunk);
    streamed_end = end;
  }
  upstream.events.push_back(UpstreamFlushed{wal.end()});
}

bool World::turn() {
  now = now + microseconds(100);
  bool worked = primary && step(*primary, primary_port, primary_disk, upstream, now);
  for (auto& host : replicas) worked |= host->step_once(now);
  return worked;
}

void World::jump() {
  if (turn()) return;
  Instant next = now + milliseconds(100);
  if (primary) next = std::min(next, primary->deadline());
  for (auto& host : replicas)
    if (host->node) next = std::min(next, host->node->deadline());
  now = std::max(now, Instant{next.ns - microseconds(100).ns});
}

void World::run(Duration duration) {
  for (const Instant end = now + duration; now < end;) turn();
}

bool World::until(const std::function<bool()>& done, Duration limit) {
  for (const Instant end = now + limit; now < end;) {
    if (done()) return true;
    turn();
  }
  return done();
}

const ReplicaView& World::replica_view(std::size_t index) {
  last_view_ = view();
  return last_view_.replicas[index];
}

bool World::all_streaming() {
  for (std::size_t i = 0; i < replicas.size(); ++i)
    if (!streaming(i)) return false;
  return true;
}

bool World::disk_holds(std::size_t index, Lsn end, Lsn begin) {
  if (end <= begin) return true;
  const FakeDisk& disk = replicas[index]->disk;
  const std::size_t from = (begin - kLogBegin).value;
  const auto own = wal.at({begin, end});
  if (disk.bytes.size() < from + own.size()) return false;
  return std::equal(own.begin(), own.end(), disk.bytes.begin() + static_cast<std::ptrdiff_t>(from));
}

}  // namespace slipstream::node
