#include "tests/sim/primary_host.h"

#include <algorithm>

#include "node/met_replicas.h"
#include "node/step.h"
#include "tests/sim/authentic.h"

namespace slipstream::sim {

// What the file holds where the server is ahead of its flushes: the end may be half written, and behind it lies what an
// earlier life wrote there.
void PrimaryDisk::read_file(const node::ReadOp& op) {
  Lsn written_end = postgres_.end();
  if (written_end > postgres_.flushed_end() && short_random_.chance(0.2))
    written_end =
        postgres_.flushed_end() + ByteCount{short_random_.below((written_end - postgres_.flushed_end()).value)};
  if (losses_ != postgres_.losses()) losses_ = postgres_.losses(), shown_end_ = {};
  written_end = std::max(written_end, shown_end_);
  shown_end_ = std::max(shown_end_, std::min(written_end, op.range.end));
  const Lsn seam = std::clamp(written_end, op.range.begin, op.range.end);
  std::ranges::copy(postgres_.bytes({op.range.begin, seam}), op.into.begin());
  postgres_.copy_stale({seam, op.range.end}, op.into.subspan((seam - op.range.begin).value));
}

bool PrimaryDisk::submit_read(const node::ReadOp& op) {
  common_.scheduler.after(random_.between(microseconds(5), microseconds(random_.chance(0.02) ? 5000 : 120)),
                          [this, op, life = life_] {
                            if (life == life_) finish_read(op);
                          });
  return true;
}

void PrimaryDisk::finish_read(const node::ReadOp& op) {
  if (error > 0 && random_.chance(error)) {
    common_.counts.note(Fault::kReadError);
    if (op.range.begin >= postgres_.kept_from() && op.range.end <= postgres_.end())
      std::ranges::copy(postgres_.bytes(op.range).first(short_random_.below(op.into.size() + 1)), op.into.begin());
    return done(op.id, node::DiskStatus::kFailed);
  }
  const bool ahead = postgres_.ahead && op.range.begin <= postgres_.end();
  if (op.range.begin < postgres_.kept_from() || (op.range.end > postgres_.end() && !ahead))
    return done(op.id, node::DiskStatus::kMissing);
  read_file(op);
  if (!op.bulk && spoiled > 0 && random_.chance(spoiled)) {
    // What goes ahead of its confirmation is protected by its records' checksums alone until then.
    const std::size_t at = random_.below(op.into.size());
    if (postgres_.ahead && !postgres_.is_covered(op.range.begin + ByteCount{at}, kOrigin))
      return done(op.id, node::DiskStatus::kOk);
    common_.counts.note(Fault::kSpoiledRead);
    op.into[at] ^= std::byte{0x10};
  }
  done(op.id, node::DiskStatus::kOk);
}

bool PrimaryDisk::submit_persist(node::PersistOp&& op) {
  const Duration shown = random_.between(microseconds(50), milliseconds(2));
  common_.scheduler.after(shown, [this, content = std::move(op.content), life = life_]() mutable {
    if (life != life_ || step()) return;
    state.rename(std::move(content));
    (void)step();
  });
  common_.scheduler.after(shown + random_.between({0}, milliseconds(1)), [this, id = op.id, life = life_] {
    if (life != life_ || step()) return;
    state.sync();
    on_state_durable();
    if (step()) return;  // Durable, and nobody was told.
    done(id, node::DiskStatus::kOk);
  });
  return true;
}

void PrimaryDisk::done(std::uint32_t id, node::DiskStatus status) {
  done_.push_back({id, status});
  wake();
}

std::size_t PrimaryDisk::complete(std::span<node::DiskDone> out) {
  std::size_t count = 0;
  for (; count < out.size() && !done_.empty(); ++count) {
    out[count] = done_.front();
    done_.pop_front();
  }
  return count;
}

void PrimaryDisk::process_died() {
  ++life_;
  done_.clear();
}

PrimaryHost::PrimaryHost(Common common, Random random, Network& network, Postgres& postgres,
                         std::vector<ack::Member> replicas)
    : port(common, network, kPrimaryId, random.fork()),
      disk(common, random.fork(), postgres),
      common_(common),
      random_(random.fork()),
      postgres_(postgres),
      replicas_(std::move(replicas)),
      turns_(common, random.fork(), [this] { turn(); }),
      ring_(kRingBytes),
      catch_up_(replicas_.size() << 20) {
  const auto deliver = [this](Wire bytes) {
    if (!node) return;
    common_.trace.note("primary", "hears", bytes.size());
    port.arrive(std::move(bytes));
    if (!paused_) turns_.wake();
  };
  const auto deliver_false = [this, deliver](Wire bytes) {
    if (!node || paused_) return deliver(std::move(bytes));
    hear_false(common_, *node, port, std::move(bytes));
    turns_.wake();
  };
  const auto epoch = [this] { return node ? node->snapshot(common_.now()).primary.epoch : Epoch{}; };
  network.attach(kPrimaryId, {deliver, deliver_false, epoch});
  disk.wake = postgres.wake_daemon = [this] {
    if (!paused_) turns_.wake();
  };
  postgres.on_written = [this] {
    if (node) node->on_written();
    if (node && !paused_) turns_.wake();
  };
  postgres.on_connection = [this] { connect_later(milliseconds(200)); };
  upstream.on_event = [this](const node::UpstreamEvent& event) {
    if (const auto* up = std::get_if<node::UpstreamConnected>(&event)) {
      confirmed_end = up->stream_begin;
      ++common_.counts.sessions;
      if (postgres_.hears_reports()) on_connected();  // It is not lost again already.
    }
    if (const auto* chunk = std::get_if<node::UpstreamChunk>(&event)) confirmed_end = chunk->range.end;
  };
  upstream.on_report = [this](const node::Report& report) {
    common_.trace.note("primary", "reports", report.flush.value, report.apply.value);
    if (on_report) on_report(report);
    postgres_.report(report);
  };
  upstream.on_slot = [this](Lsn end) { postgres_.advance_slot(end); };
  upstream.on_reconnect = [this] { lose_connection(); };
  lose_state();
}

void PrimaryHost::lose_state() {
  node::State state;
  state.role = node::State::Role::kPrimary;
  state.own_epoch = {++term_, 0};
  state.identity = Identity{{random_.next(), random_.next()}};
  state.machine = "machine";
  state.system = kSystem;
  if (term_ > 1) node::expect_all(state, replicas_);  // As the daemon does when a term is claimed.
  disk.state.make(node::encode(state));
}

void PrimaryHost::restore(std::vector<std::byte> copy) {
  CHECK(!node);
  common_.trace.note("primary", "is restored", copy.size());
  disk.state.make(std::move(copy));
}

void PrimaryHost::start(const std::string& policy_text) {
  if (node || gone) return;
  disk.state.sync();  // As read_durable() does: a process was killed just after it renamed the file.
  disk.on_state_durable();
  const auto state = node::decode_state(disk.state.visible(), "state");
  if (!state) return common_.trace.fail("the primary cannot read its state file: {}", state.error().message());
  policy = policy_text;
  common_.trace.note("primary", "starts", state->own_epoch.incarnation);
  common_.trace.say("primary", "policy \"{}\"", policy);
  node::PrimaryOptions options;
  options.id = kPrimaryId, options.name = "a", options.replicas = replicas_, options.policy = policy;
  options.random_seed = random_.next();
  options.ship_written = ship_written;
  port.process_started();
  joined_ = {};
  node = std::make_unique<node::PrimaryNode>(options, *state, ring_, catch_up_, common_.now());
  connect_later(milliseconds(20));
  turns_.wake();
}

void PrimaryHost::connect_later(Duration most) {
  common_.scheduler.after(random_.between(milliseconds(1), most), [this, life = life_] {
    if (life != life_ || !node || postgres_.connected()) return;
    if (!postgres_.running() || (ship_written && upstream.has_lost())) return connect_later(milliseconds(50));
    postgres_.connect(&upstream);
  });
}

void PrimaryHost::lose_connection() { postgres_.disconnect(true); }

void PrimaryHost::crash() {
  if (!node) return;
  common_.trace.note("primary", "dies");
  resent_before_ = bytes_resent();
  node.reset();
  ++life_;
  paused_ = false;
  disk.process_died();
  port.process_ended();
  turns_.never();
  postgres_.daemon_died();
  ++life_;
  upstream.events.clear();
  upstream.connections_told = upstream.connections_seen = 0;
}

std::uint64_t PrimaryHost::bytes_resent() const {
  std::uint64_t sum = resent_before_;
  if (!node) return sum;
  for (const auto& each : node->snapshot(common_.now()).primary.replicas) sum += each.bytes_resent;
  return sum;
}

void PrimaryHost::lose_power() {
  crash();
  if (disk.state.power_lost(random_)) common_.counts.note(Fault::kStateReverted);
}

void PrimaryHost::pause(bool paused) {
  if (!node) return;
  paused_ = paused;
  common_.trace.note("primary", paused ? "pauses" : "goes on");
  paused ? turns_.never() : turns_.wake();
}

void PrimaryHost::turn() {
  if (!node || paused_) return;
  const bool worked = node::step(*node, port, disk, upstream, common_.now());
  if (worked) ++common_.counts.events;
  look_for_joined();
  turns_.next(worked, node->deadline());
}

// As the daemon does once a second.
void PrimaryHost::look_for_joined() {
  if (common_.now() - looked_ < seconds(1)) return;
  looked_ = common_.now();
  const node::PrimaryView view = node->snapshot(looked_).primary;
  for (const std::string& name : joined_.look(view))
    postgres_.drop_slot_of(name, std::ranges::find(view.replicas, name, &node::ReplicaView::name)->log_id);
}

}  // namespace slipstream::sim
