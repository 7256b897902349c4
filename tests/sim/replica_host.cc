#include "tests/sim/replica_host.h"

#include <algorithm>
#include <array>

#include "node/fed_from_memory.h"
#include "node/log_cut.h"
#include "node/step.h"
#include "tests/sim/authentic.h"
#include "tests/sim/postgres.h"

namespace slipstream::sim {
namespace {

class NoStandby : public node::Standby {
 public:
  bool next_event(node::StandbyEvent&) override { return false; }
  void release(const node::Release&) override {}
};

}  // namespace

struct ReplicaHost::Memory {
  alignas(4096) std::array<std::byte, kRingBytes> ring{};
  std::array<std::byte, 64 * 1024> compare{};
  RecentBytes recent{kRecentBytes};
};

node::State first_replica_state(LogId log_id, Lsn log_begin, bool log_only) {
  node::State state;
  state.role = node::State::Role::kReplica;
  state.system = kSystem;
  state.segment_size = kSegmentSize;
  state.timeline = TimelineId{1};
  state.page_magic = 0xD110;
  state.log_id = log_id;
  state.log_begin = state.scan_begin = state.counted_end = state.final_end = log_begin;
  state.log_only = log_only;
  return state;
}

ReplicaHost::ReplicaHost(Common common, Random random, Network& network, ack::Member m, Setup s)
    : member(std::move(m)),
      setup(s),
      port(common, network, member.id, random.fork()),
      disk(common, random.fork(), setup.direct),
      standby(common, random.fork()),
      common_(common),
      random_(random.fork()),
      turns_(common, random.fork(), [this] { turn(); }) {
  const auto deliver = [this, &network](Wire bytes) {
    if (!node) return network.note_lost(bytes);
    common_.trace.note(member.name, "hears", bytes.size());
    port.arrive(std::move(bytes));
    if (!paused_) turns_.wake();
  };
  const auto deliver_false = [this, deliver](Wire bytes) {
    if (!node || paused_) return deliver(std::move(bytes));
    hear_false(common_, *node, port, std::move(bytes));
    turns_.wake();
  };
  const auto epoch = [this] { return node ? node->snapshot(common_.now()).replica.promised_epoch : Epoch{}; };
  network.attach(member.id, {deliver, deliver_false, epoch});
  const auto wake = [this] {
    if (!paused_) turns_.wake();
  };
  disk.wake = wake;
  standby.wake = wake;
  disk.io_error = [this] { crash(); };
}

ReplicaHost::~ReplicaHost() = default;

// As app/replica_directory does, but that nothing is set aside: people's copies decide nothing.
bool ReplicaHost::finish_cut(node::State& state) {
  const auto no = node::objection_to_cut(state);
  const Lsn from = state.replacement->from;
  const auto kept = wal::recover(disk, wal::SegmentLayout(state.segment_size), state.log_begin,
                                 wal::Scanner::Start::kPage, {state.system, {}}, from);
  if (no || kept.stopped_at != from) {
    common_.trace.fail("{} cannot cut its log at {}: {}", member.name, to_string(from),
                       no ? no->message() : "it is whole only to " + to_string(kept.stopped_at));
    return false;
  }
  common_.trace.note(member.name, "cuts its log", kept.durable_end.value, state.replacement->old_end.value);
  const auto keep = [&](node::State changed) {
    state = std::move(changed);
    return disk.replace_state(node::encode(state));
  };
  if (kept.durable_end != from && !keep(node::state_before_cut(state, kept))) return false;
  return disk.clear_from(kept.durable_end) && keep(node::state_after_cut(state, kept));
}

// As app/replica_directory does: read, recover, make durable what recovery relies on.
void ReplicaHost::start() {
  if (node) return;
  disk.sync_state();
  auto state = node::decode_state(disk.state.visible(), member.name);
  if (!state) return common_.trace.fail("{} cannot read its state file: {}", member.name, state.error().message());
  const wal::SegmentLayout layout(state->segment_size);
  if (state->replacement && !finish_cut(*state)) return;
  const auto recovered = wal::recover(disk, layout, state->log_begin, wal::Scanner::Start::kPage, {state->system, {}});
  disk.sync(layout.segment_begin(state->scan_begin));
  const Lsn known = std::max(state->final_end, state->scan_begin);
  if (recovered.durable_end < known || (state->scan_begin_is_record && recovered.durable_end <= state->scan_begin))
    return common_.trace.fail("{} refuses to start: its log is whole to {} ({} at {}), but was so to {}", member.name,
                              to_string(recovered.durable_end), wal::to_string(recovered.stopped_by),
                              to_string(recovered.stopped_at), to_string(known));
  common_.trace.note(member.name, "recovers", recovered.durable_end.value, state->final_end.value);
  if (on_recovered) on_recovered(recovered, *state);
  memory_ = std::make_unique<Memory>();
  const Lsn block = align_down(recovered.durable_end, 4096);
  const ByteCount begun = recovered.durable_end - block;
  CHECK(wal::read_whole(disk, block, std::span(memory_->ring).subspan(block.value & (kRingBytes - 1), begun.value)));
  memory_->recent.append(recovered.durable_end, {});
  port.process_started();
  node = std::make_unique<node::ReplicaNode>(node::ReplicaOptions{member.id, member.name, kPrimaryId, setup.log_only},
                                             *state, recovered, memory_->ring, memory_->compare, common_.now());
  if (!setup.log_only) standby.replica_started();
  turns_.wake();
}

std::span<const std::byte> ReplicaHost::ring(LsnRange range) const {
  return std::span(memory_->ring).subspan(range.begin.value & (kRingBytes - 1), range.size().value);
}

std::vector<std::byte> ReplicaHost::in_memory(Lsn end) const {
  std::vector<std::byte> out(std::min<std::uint64_t>(kRecentBytes, end.value));
  for (; !out.empty() && !memory_->recent.read(Lsn{end.value - out.size()}, out);) out.resize(out.size() / 16 * 8);
  return out;
}

void ReplicaHost::crash() {
  if (!node) return;
  common_.trace.note(member.name, "dies");
  disk.process_died();
  node.reset();
  paused_ = false;
  ++life_;
  port.process_ended();
  standby.replica_died();
  turns_.never();
  on_died();
}

void ReplicaHost::lose_power() {
  crash();
  disk.power_lost();
  common_.trace.note(member.name, "lost power");
}

void ReplicaHost::make_empty(Lsn log_begin, LogId log_id) {
  CHECK(!node);
  disk.make_empty(node::encode(first_replica_state(log_id, log_begin, setup.log_only)));
  standby.make_new(log_begin);
  common_.trace.note(member.name, "is made anew", log_begin.value);
}

void ReplicaHost::pause(bool paused) {
  if (!node) return;
  paused_ = paused;
  common_.trace.note(member.name, paused ? "pauses" : "goes on");
  paused ? turns_.never() : turns_.wake();
}

void ReplicaHost::turn() {
  if (!node || paused_) return;
  NoStandby none;
  node::FedFromMemory fed(standby, *node, memory_->ring, memory_->recent);
  node::Standby& beside = setup.log_only ? static_cast<node::Standby&>(none) : fed;
  const bool worked = node::step(*node, port, disk, beside, kPrimaryId, common_.now());
  if (on_turn) on_turn();
  if (node && worked) ++common_.counts.events;
  if (node && node->wants_reopen()) return reopen();
  if (node) turns_.next(worked, node->deadline());
}

// The process lives on, but nothing of what the node had in memory does.
void ReplicaHost::reopen() {
  crash();
  start();
}

}  // namespace slipstream::sim
