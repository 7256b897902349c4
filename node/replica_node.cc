#include "node/replica_node.h"

#include "node/replica_impl.h"

namespace slipstream::node {

using protocol::Verdict;

ReplicaNode::ReplicaNode(ReplicaOptions options, State state, wal::Recovered recovered, std::span<std::byte> ring,
                         std::span<std::byte> compare_memory, Instant now)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(state), recovered, ring, compare_memory, now)) {}
ReplicaNode::~ReplicaNode() = default;

Verdict ReplicaNode::on_frame(const protocol::Arrival& arrival, Instant now) {
  Impl& n = *impl_;
  protocol::Frame frame;
  if (const Verdict verdict = protocol::decode(arrival, frame); verdict != Verdict::kAccepted)
    return n.verdicts.count(verdict);
  const auto& h = frame.header;
  if (n.cutting()) return n.verdicts.count(Verdict::kUnexpected);
  if (h.stream != 0) return n.verdicts.count(Verdict::kOtherStream);
  if (h.destination != n.options.id || h.source != n.options.primary) return n.verdicts.count(Verdict::kUnknownNode);
  if (const auto* hello = std::get_if<protocol::Hello>(&frame.body))
    return n.verdicts.count(n.on_hello(h, *hello, now));
  return n.verdicts.count(n.on_session_frame(frame, now));
}

void ReplicaNode::on_disk(DiskDone done, Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  if (done.id == kPersistOperation) {
    n.keeper.on_done(done.status, now);
    if (done.status == DiskStatus::kOk)
      n.final_durable = std::max(n.final_durable, std::min(n.final_writing, n.log.durable_end())),
      n.scan_begin_durable = n.scan_begin_writing, n.log_begin_durable = n.log_begin_writing;
    n.quiesce();
    n.activate_if_durable(now);
  } else if (done.id == kHistoryOperation) {
    n.history.on_kept(done.status);
  } else if (n.digests.owns(done.id)) {
    n.digests.on_read(done.status);
  } else {
    CHECK(n.log.owns(done.id));
    n.log.on_written(done.id, done.status, now);
    n.on_progress();
  }
}

void ReplicaNode::on_standby(const StandbyEvent& event, Instant now) {
  Impl& n = *impl_;
  if (const auto* connected = std::get_if<StandbyConnected>(&event)) {
    n.standby_connected = true;
    n.standby_applied = n.standby_flushed = {};  // Perhaps another standby than before.
    n.standby_restart = connected->restart_point;
    n.standby_feedback = {};
    // It counts from now on: its restart point lies inside the log (Q2).
    if (connected->restart_point >= n.state().log_begin && !n.state().standby_ready)
      n.standby_ticket = n.keeper.change([](State& s) { s.standby_ready = true; });
  } else if (const auto* reply = std::get_if<StandbyReply>(&event)) {
    n.on_applied(reply->apply, now);
    n.standby_flushed = std::max(n.standby_flushed, reply->flush);
    n.raise_final();
  } else if (const auto* feedback = std::get_if<StandbyFeedback>(&event)) {
    n.standby_feedback = *feedback;
  } else {
    n.standby_feedback = {};
    n.standby_connected = false;
  }
}

void ReplicaNode::on_deadline(Instant now) {
  impl_->now_seen = now;
  impl_->persist_lazily(now);
}

void ReplicaNode::raise_log_begin(Lsn wanted) {
  Impl& n = *impl_;
  if (n.cutting() || (n.phase != Impl::Phase::kNone && n.phase != Impl::Phase::kActive)) return;
  const Lsn limit = std::min(n.release().fed_end, n.scan_begin_durable);
  const Lsn begin = align_down(std::min(wanted, limit), n.state().segment_size.value);
  if (begin > n.state().log_begin) n.keeper.change([&](State& s) { s.log_begin = begin; });
}

Lsn ReplicaNode::log_begin() const { return impl_->log_begin_durable; }

bool ReplicaNode::wants_reopen() const { return impl_->cutting() && impl_->keeper.durable(impl_->cut_ticket); }

bool ReplicaNode::settle() {
  Impl& n = *impl_;
  if (!n.log.settled()) return false;
  if (n.positions_moved()) n.settle_ticket = n.keeper.change([&](State& s) { n.remember_positions(s); });
  return n.keeper.durable(n.settle_ticket);
}

bool ReplicaNode::next_frame(NodeId peer, std::size_t, OutFrame& out, Instant now) {
  Impl& n = *impl_;
  out.payload = {};
  if (peer != n.options.primary || n.cutting()) return false;
  if (n.refusal) {
    protocol::FrameHeader h = n.header(now);
    h.session = n.refusal_header.session, h.epoch = n.refusal_header.epoch, h.timeline = n.refusal_header.timeline;
    out.head_bytes = protocol::encode(h, *n.refusal, out.head);
    n.refusal.reset();
    return true;
  }
  if (n.welcome_wanted) {
    n.welcome_wanted = false;
    out.head_bytes = protocol::encode(n.header(now), n.welcome(), out.head);
    return true;
  }
  if (n.phase == Impl::Phase::kWelcomed) {
    const auto reply = n.digests.next_reply();
    if (!reply) return false;
    out.head_bytes = protocol::encode(n.header(now), *reply, out.head);
    return true;
  }
  if (n.phase != Impl::Phase::kActive) return false;
  if (n.next_ack(out, now)) return true;
  if (!n.path_reply) return false;
  out.head_bytes = protocol::encode(n.header(now), *n.path_reply, out.head);
  n.path_reply.reset();
  return true;
}

std::optional<WriteOp> ReplicaNode::next_write(Instant now) { return impl_->log.next_write(now); }
std::optional<ReadOp> ReplicaNode::next_read() { return impl_->digests.next_read(); }
std::optional<PersistOp> ReplicaNode::next_persist() {
  Impl& n = *impl_;
  auto op = n.keeper.next(n.now_seen);
  if (op)
    n.final_writing = n.state().final_end, n.scan_begin_writing = n.state().scan_begin,
    n.log_begin_writing = n.state().log_begin;
  return op;
}
std::optional<KeepHistoryOp> ReplicaNode::next_history() { return impl_->history.next(); }

Release ReplicaNode::release() const { return impl_->release(); }

LsnRange ReplicaNode::durable_in_ring() const {
  const Impl& n = *impl_;
  const Lsn end = n.log.durable_end();
  if (!n.receiver) return {end, end};
  // Nothing beyond was put into the ring. Frames end anywhere, records at multiples of 8.
  const Lsn placed_end = align_up(n.receiver->sent_end(), 8), size{n.ring.size()};
  return {std::min(end, placed_end > size ? Lsn{(placed_end - size).value} : Lsn{}), end};
}

Instant ReplicaNode::deadline() const {
  const Impl& n = *impl_;
  Instant at = n.log.retry_at();
  if (n.positions_moved()) at = std::min(at, n.last_persist + kPersistInterval);
  if (n.receiver) at = std::min({at, n.receiver->deadline(n.hold()), n.repeat_at, n.last_ack + n.options.heartbeat});
  if (n.receiver && n.applied_end() > n.told.applied) at = std::min(at, n.applied_due);
  return at;
}

}  // namespace slipstream::node
