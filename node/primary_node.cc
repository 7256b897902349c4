#include "node/primary_node.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "ack/quorum.h"
#include "ack/samples.h"
#include "node/confirmer.h"
#include "node/counters.h"
#include "node/met_replicas.h"
#include "node/peer.h"
#include "node/policy_book.h"
#include "node/reporter.h"
#include "node/server_check.h"
#include "node/ship_log.h"
#include "node/state_keeper.h"
#include "node/waiting.h"
#include "wal/segment.h"

namespace slipstream::node {
namespace {

using protocol::Verdict;

constexpr std::uint32_t kPersistOperation = 1;
constexpr std::uint32_t kConfirmOperations = 0x100;
constexpr std::uint32_t kPeerOperations = 0x1000;  // 0x100 for each peer.
constexpr std::size_t kSamples = 4096;
// PostgreSQL's checkpointer puts changed names into force, perhaps a little later than a session sees them.
constexpr Duration kNamesSettle = seconds(2);
// Every commit waits for a moment; people are told of more than that.
constexpr Duration kWaitsLong = milliseconds(100);

// The older of two, where 0 is none. What is below 3 is no transaction's number.
std::uint64_t older(std::uint64_t a, std::uint64_t b) {
  const auto none = [](std::uint64_t xid) { return static_cast<std::uint32_t>(xid) < 3; };
  if (none(a)) return none(b) ? 0 : b;
  return none(b) ? a : std::min(a, b);
}

}  // namespace

struct PrimaryNode::Impl {
  Impl(PrimaryOptions o, State state, std::span<std::byte> ring, std::span<std::byte> catch_up_memory, Instant now)
      : options(std::move(o)),
        keeper(std::move(state), kPersistOperation),
        log(ring),
        confirmer(log, kConfirmOperations),
        book(keeper, options.replicas, options.policy),
        met(keeper, options.replicas),
        quorum(new_quorum()),
        connection_quorum(new_quorum()),
        samples(kSamples, options.replicas.size()),
        pace(options.catch_up_rate),
        counted_since(now),
        waiting_since(now) {
    facts.id = options.id, facts.name = options.name, facts.heartbeat = options.heartbeat,
    facts.candidate_timeout = options.candidate_timeout;
    facts.slow_backlog = options.slow_backlog.value_or(ByteCount{ring.size()});
    facts.identity = keeper.state().identity;
    facts.superseded = keeper.state().superseded;
    facts.earlier_epoch = keeper.state().own_epoch;
    facts.system = keeper.state().system;
    const std::size_t share = catch_up_memory.size() / std::max<std::size_t>(1, options.replicas.size()) /
                              ReadSlots::kSlotBytes * ReadSlots::kSlotBytes;
    for (std::size_t i = 0; i < options.replicas.size(); ++i)
      peers.push_back(
          std::make_unique<Peer>(options.replicas[i], facts, log, catch_up_memory.subspan(i * share, share),
                                 kPeerOperations + static_cast<std::uint32_t>(i) * 0x100,
                                 i < options.rate_limits.size() ? options.rate_limits[i] : protocol::RateLimits{}));
    update_policy_facts();
  }

  // ---- Policy (Q4, Q5)

  ack::Quorum new_quorum() const {
    ack::Quorum made(book.in_force());
    if (book.next()) made.begin_change(*book.next());
    return made;
  }

  void update_policy_facts() {
    facts.policy_version = book.told().version;
    facts.policy_text = book.told().text;
    facts.members.clear();
    for (const MemberRecord& each : book.told().members) facts.members.push_back({each.name, each.id, each.log_id});
    facts.not_held = book.not_held_told();
    while (facts.not_held.size() > 1 &&
           !protocol::fits({facts.policy_version, facts.policy_text, facts.members, facts.not_held}))
      join_oldest(facts.not_held);
  }

  // A log becomes a member when it streams and holds all that was acknowledged: before that it must not stand for the
  // log that was lost (Q4).
  void look_for_members() {
    const ack::Ends& committed = quorum.committed_ends();
    for (const auto& peer : peers) {
      if (peer->welcomed()) {
        if (book.outbid(peer->policy_version())) met.expect_all();
        met.meet(peer->member(), peer->log_id(), peer->policy_version());
      }
      if (!book.mentions(peer->member().id) || !peer->holds_what_was_valid()) continue;
      const ack::Ends& ends = peer->ends();
      if (ends[ack::Level::kDurable] >= committed[ack::Level::kDurable] &&
          ends[ack::Level::kReceived] >= committed[ack::Level::kReceived])
        book.admit(peer->member(), peer->log_id());
    }
  }

  // ---- Retention

  Lsn slot_end() const {
    if (!met.durable()) return {};
    Lsn least{UINT64_MAX};
    for (const auto& peer : peers)
      if (peer->ever_heard())
        least = std::min(least, peer->final_end());
      else if (met.expects(peer->member()))
        return {};
    return least == Lsn{UINT64_MAX} ? Lsn{} : least;
  }

  // ---- Not held (R2)

  // What the quorum has committed is held whatever the names say; all beyond, waiting commits too, returns without it.
  void on_sync_names(const UpstreamSyncNames& names, Instant now) {
    if (names.contains_us && !counted_by_postgres) counted_since = now;
    counted_by_postgres = names.contains_us;
    sync_names = names.value;
    const bool open = has_open_mark(book.not_held());
    const bool promised = !book.in_force().empty() || book.next();
    if (!open && !counted_by_postgres && promised && !facts.superseded)
      book.open_mark(std::max(quorum.committed_ends()[ack::Level::kDurable], held_by_all()));
    else if (open && counted_by_postgres && now >= counted_since + kNamesSettle)
      book.close_mark(std::max(names.flushed_end, facts.flushed_end));
  }

  // By the log of every member; 0 while one was not heard of.
  Lsn held_by_all() const {
    Lsn least = kOpenEnd;
    for (const auto& peer : peers)
      if (book.mentions(peer->member().id)) least = std::min(least, peer->ever_heard() ? peer->final_end() : Lsn{});
    return least == kOpenEnd ? Lsn{} : least;
  }

  void look_for_copies(Peer& welcomed, Instant now) {
    for (const auto& other : peers)
      if (other.get() != &welcomed && other->ever_heard() && other->log_id() == welcomed.log_id())
        return welcomed.refuse_copy(other->member().name, now);
  }

  // ---- PostgreSQL

  void on_connected(const UpstreamConnected& up, Instant now) {
    connected = facts.running = recording = false;
    probe_end = {};
    for (auto& peer : peers) peer->drop_session();
    reporter.on_connected();
    connection_quorum = new_quorum();
    facts.valid_end = {};
    if (keeper.state().superseded) return fail("superseded", superseded_text);
    const ack::Ends& committed = quorum.committed_ends();
    const Lsn held =
        std::min(std::max(committed[ack::Level::kReceived], committed[ack::Level::kDurable]), most_flushed);
    if (auto no = unfit_server(up, keeper.state(), held)) return fail(std::move(no->state), std::move(no->reason));
    failed.clear();
    connected = true;
    most_flushed = std::max(most_flushed, up.flushed_end);
    epoch_ticket = keeper.change([&](State& state) {
      state.system = up.system;
      state.segment_size = up.segment_size;
      state.timeline = up.timeline;
      state.timeline_history = up.history;
      state.own_epoch.term = std::max(state.own_epoch.term, 1u);
      ++state.own_epoch.incarnation;
    });
    facts.system = up.system, facts.timeline = up.timeline, facts.segment_size = up.segment_size,
    facts.server_version_num = up.server_version_num;
    facts.history = up.history;
    facts.flushed_end = facts.flushed_at_connection = up.flushed_end;
    facts.confirmed_end = facts.valid_end = up.stream_begin;
    recording = true;
    confirmer.restart(up.stream_begin);
    stale_end = up.stale_end;
    // Where nothing goes ahead, WAL that the server lacks was flushed once: it is not cut, but refused by name.
    facts.goes_ahead = facts.may_cut = options.ship_written && up.all_flushed;
    if (facts.may_cut) quorum.forget_beyond(up.flushed_end);
    if (facts.goes_ahead) confirmer.take_written(wal::SegmentLayout(up.segment_size), {up.system, up.timeline});
    raise_epoch_if_durable(now);
  }

  void fail(std::string state, std::string why) {
    failed = std::move(state);
    failed_reason = std::move(why);
  }

  void raise_epoch_if_durable(Instant now) {
    if (!recording || !keeper.durable(epoch_ticket)) return;
    recording = false;
    facts.running = true;
    facts.epoch = keeper.state().own_epoch;
    for (auto& peer : peers) peer->on_new_epoch(now);
  }

  void on_persisted(DiskStatus status, Instant now) {
    keeper.on_done(status, now);
    if (book.on_persisted()) {
      update_policy_facts();
      for (auto& peer : peers) peer->on_policy_changed(now);
    }
    raise_epoch_if_durable(now);
  }

  void take_confirmed(Instant now) {
    look_at_written(now);
    while (const auto confirmed = confirmer.next_confirmed()) {
      const LsnRange range = confirmed->range;
      // What PostgreSQL flushed is valid whatever its records say; what went ahead of that was looked at.
      facts.confirmed_end = range.end;
      most_flushed = std::max(most_flushed, range.end);
      facts.flushed_end = std::max(facts.flushed_end, range.end);
      on_valid(range.end, confirmed->heard);
    }
    // Old pages behind the flushed end could be taken for new ones.
    confirmer.allow_written(facts.flushed_end >= stale_end);
  }

  void look_at_written(Instant now) {
    if (!connected) return;
    on_valid(log.end(), now);
    facts.apply_awaited_end = confirmer.apply_awaited_end();
  }

  void on_valid(Lsn end, Instant heard) {
    if (end <= facts.valid_end) return;
    facts.valid_end = end;
    if (probe_end == Lsn{}) probe_end = end, probe_heard = heard;
    if (end > sampled_end) samples.on_shipped(sampled_end = end, heard);
  }

  // ---- Acknowledgements

  void gather(Instant now) {
    acks.clear();
    for (std::size_t i = 0; i < peers.size(); ++i) {
      const Peer& peer = *peers[i];
      acks.push_back(peer.acks(now));
      for (const ack::Level level : ack::kAllLevels) samples.on_acked(i, level, peer.ends()[level], now);
    }
    if (facts.superseded) return;
    look_for_members();
    if (!book.not_held().empty()) book.drop_marks(held_by_all());
    if (book.finish_if_met(acks)) {
      quorum.finish_change();
      connection_quorum.finish_change();
    }
    quorum.update(acks);
    connection_quorum.update(acks);
    reporter.raise(connection_quorum.committed_ends(), facts.valid_end, confirmer.stream_end());
    const Lsn committed = quorum.committed_ends()[ack::Level::kDurable];
    if (probe_end != Lsn{} && committed >= probe_end) {
      if (now - probe_heard < kWaitsLong) pace.on_commit(now - probe_heard);
      probe_end = {};
    }
    if (committed != committed_seen || awaited_end() <= committed) committed_seen = committed, waiting_since = now;
  }

  // For people: where the last record ends that commits can wait for. Behind a switch of segments that is below
  // valid_end, and no replica's durable end comes nearer before the next record. In flushed WAL zeros stand only there.
  Lsn awaited_end() const {
    const Lsn committed = quorum.committed_ends()[ack::Level::kDurable];
    if (facts.segment_size.value == 0 || committed >= facts.valid_end) return facts.valid_end;
    for (const auto& peer : peers)
      if (const auto end = peer->last_record_below(facts.valid_end)) return *end;
    const LsnRange behind{committed, committed + ByteCount{8}};
    const bool switched =
        log.holds(behind) && std::ranges::all_of(log.memory(behind), [](std::byte b) { return b == std::byte{0}; });
    return switched && wal::SegmentLayout(facts.segment_size).segment_end(committed) >= facts.valid_end
               ? committed
               : facts.valid_end;
  }

  void look_for_superseding(Peer& peer) {
    if (!peer.superseding() || facts.superseded) return;
    const auto& refused = *peer.superseding();
    const bool other_owner = refused.promised.term == facts.epoch.term;
    superseded_text = fmt::format(
        "{} has promised term {}{}, this primary holds term {}: it was superseded and reports nothing more. {}{}",
        peer.member().name, refused.promised.term, other_owner ? " to another owner" : "", facts.epoch.term,
        refused.text,
        refused.reason != protocol::RefuseReason::kFenced
            ? fmt::format(". If this server is the only primary (its state directory was lost or made anew): "
                          "slipstream run -c FILE --claim-term {}",
                          refused.promised.term + 1)
            : "");
    facts.superseded = true;
    facts.running = false;
    reporter.freeze();
    keeper.change([](State& s) { s.superseded = true; });
    fail("superseded", superseded_text);
  }

  // This state is an older copy of itself: another life opened the epoch, and perhaps told a policy in it, and met
  // replicas. What follows is above all that it can have used. (E1)
  void leave_used_epoch(Peer& peer) {
    const auto used = peer.take_used_epoch();
    if (!used || !facts.running || used->incarnation == std::numeric_limits<std::uint32_t>::max()) return;
    facts.running = false;
    recording = true;
    for (auto& each : peers) each->drop_session();
    facts.earlier_epoch = std::max(keeper.state().own_epoch, *used);
    epoch_ticket =
        keeper.change([&](State& state) { state.own_epoch.incarnation = facts.earlier_epoch.incarnation + 1; });
    book.renew();
    met.expect_all();
  }

  PrimaryOptions options;
  StateKeeper keeper;
  PrimaryFacts facts;
  ShipLog log;
  Confirmer confirmer;
  PolicyBook book;
  MetReplicas met;
  ack::Quorum quorum;             // Over this process life.
  ack::Quorum connection_quorum;  // Over this connection: what is reported on it was acknowledged after its handshakes
                                  // (R1, Q1).
  Reporter reporter;
  ack::SampleRing samples;
  Pace pace;
  Lsn probe_end{};  // One commit at a time is watched for the pace; zero: none.
  Instant probe_heard{};
  std::vector<std::unique_ptr<Peer>> peers;
  std::vector<ack::ReplicaAcks> acks;
  StateKeeper::Ticket epoch_ticket = 0;
  bool connected = false;  // And nothing speaks against shipping what it streams.
  bool recording = false;
  bool counted_by_postgres = true;
  Instant counted_since;
  Lsn committed_seen;  // At level durable.
  Instant waiting_since;
  std::string sync_names;
  std::string failed, failed_reason;
  std::string superseded_text =
      "another primary owns a higher term: this one reports nothing more. If this server is the only primary now: "
      "slipstream run -c FILE --claim-term N, N above every term in use (slipstream status of a replica shows it)";
  Lsn sampled_end{};
  Lsn stale_end{UINT64_MAX};
  Lsn most_flushed{};  // Over this process life.
  Instant now_seen{};
  std::size_t next_reader = 0;
  VerdictCounters verdicts;
};

PrimaryNode::PrimaryNode(PrimaryOptions options, State state, std::span<std::byte> ring,
                         std::span<std::byte> catch_up_memory, Instant now)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(state), ring, catch_up_memory, now)) {}
PrimaryNode::~PrimaryNode() = default;

void PrimaryNode::on_upstream(const UpstreamEvent& event, Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  if (const auto* up = std::get_if<UpstreamConnected>(&event)) {
    n.on_connected(*up, now);
  } else if (const auto* chunk = std::get_if<UpstreamChunk>(&event)) {
    if (n.connected) n.confirmer.on_chunk(*chunk, now), n.take_confirmed(now);
  } else if (const auto* flushed = std::get_if<UpstreamFlushed>(&event)) {
    if (n.connected) n.facts.flushed_end = std::max(n.facts.flushed_end, flushed->flushed_end);
  } else if (std::holds_alternative<UpstreamLost>(event)) {
    n.connected = false;
    n.confirmer.stop_written();  // The next connection begins beyond all that went ahead in this one.
  } else if (const auto* names = std::get_if<UpstreamSyncNames>(&event)) {
    n.on_sync_names(*names, now);
  } else {
    n.reporter.on_stopping();
  }
}

void PrimaryNode::on_written() { impl_->confirmer.on_written(); }

bool PrimaryNode::wants_upstream() const { return !impl_->confirmer.full(); }

Verdict PrimaryNode::on_frame(const protocol::Arrival& arrival, Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  protocol::Frame frame;
  if (const Verdict verdict = protocol::decode(arrival, frame); verdict != Verdict::kAccepted)
    return n.verdicts.count(verdict);
  const auto& h = frame.header;
  if (h.stream != 0) return n.verdicts.count(Verdict::kOtherStream);
  if (h.destination != n.options.id) return n.verdicts.count(Verdict::kUnknownNode);
  const auto peer = std::ranges::find_if(n.peers, [&](const auto& each) { return each->member().id == h.source; });
  if (peer == n.peers.end()) return n.verdicts.count(Verdict::kUnknownNode);
  if (h.cluster != n.facts.system && !std::holds_alternative<protocol::Refuse>(frame.body))
    return n.verdicts.count(Verdict::kOtherCluster);
  const Verdict verdict = (*peer)->on_frame(frame, now);
  if (verdict == Verdict::kAccepted && h.kind == protocol::FrameKind::kWelcome) n.look_for_copies(**peer, now);
  n.look_for_superseding(**peer);
  n.leave_used_epoch(**peer);
  n.gather(now);
  return n.verdicts.count(verdict);
}

void PrimaryNode::on_disk(DiskDone done, Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  if (done.id == kPersistOperation) {
    n.on_persisted(done.status, now);
    n.gather(now);
  } else if (n.confirmer.owns(done.id)) {
    n.confirmer.on_read(done.id, done.status, now);
    n.take_confirmed(now);
  } else {
    const std::uint32_t offset = done.id - kPeerOperations;
    CHECK(done.id >= kPeerOperations && offset / 0x100 < n.peers.size());
    n.peers[offset / 0x100]->on_read(offset % 0x100, done.status, now);
  }
}

void PrimaryNode::on_deadline(Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  for (auto& peer : n.peers) peer->on_deadline(now);
  n.pace.on_turn(n.facts.valid_end, now - n.waiting_since > kWaitsLong, now);
  n.gather(now);  // Also without an ack: a silent replica ceases to be a candidate, and valid_end may have moved.
}

bool PrimaryNode::next_frame(NodeId to, std::size_t frame_bytes_max, OutFrame& out, Instant now) {
  for (auto& peer : impl_->peers)
    if (peer->member().id == to) return peer->next_frame(frame_bytes_max, out, now);
  return false;
}

std::optional<ReadOp> PrimaryNode::next_read() {
  Impl& n = *impl_;
  if (n.connected || n.facts.running)
    if (auto read = n.confirmer.next_read(n.now_seen)) return read;
  for (std::size_t i = 0; i < n.peers.size(); ++i) {
    n.next_reader = (n.next_reader + 1) % n.peers.size();
    if (auto read = n.peers[n.next_reader]->next_read(n.pace)) return read;
  }
  return std::nullopt;
}

std::optional<PersistOp> PrimaryNode::next_persist() { return impl_->keeper.next(impl_->now_seen); }

Report PrimaryNode::report() const { return impl_->reporter.report(); }

Lsn PrimaryNode::slot_end() const { return impl_->slot_end(); }

StandbyFeedback PrimaryNode::feedback(Instant now) const {
  StandbyFeedback oldest;
  for (const auto& peer : impl_->peers) {
    const StandbyFeedback told = peer->feedback(now);
    oldest = {older(oldest.xmin, told.xmin), older(oldest.catalog_xmin, told.catalog_xmin)};
  }
  return oldest;
}

bool PrimaryNode::take_reconnect() { return impl_->confirmer.take_reconnect(); }

Instant PrimaryNode::deadline() const {
  Instant at = impl_->confirmer.deadline();
  for (const auto& peer : impl_->peers) {
    at = std::min(at, peer->deadline());
    if (peer->wants_catch_up()) at = std::min(at, impl_->pace.next());
  }
  return at;
}

std::span<const ack::Member> PrimaryNode::peers() const { return impl_->options.replicas; }

Snapshot PrimaryNode::snapshot(Instant now) const {
  const Impl& n = *impl_;
  Snapshot out{n.options.name, "primary", {}, {}, n.verdicts.view()};
  PrimaryView& view = out.primary;
  view.state = !n.failed.empty()        ? n.failed
               : n.confirmer.given_up() ? "mismatch"
               : n.recording            ? "recording_epoch"
               : n.connected            ? "running"
                                        : "no_database";
  view.reason = n.failed.empty() ? "" : n.failed_reason;
  if (view.state == "mismatch")
    view.reason = fmt::format(
        "PostgreSQL's stream and the files in pg_wal differ behind {}, over several connections: is wal_directory the "
        "pg_wal of this server? Then restart",
        to_string(n.facts.confirmed_end));
  if (view.reason.empty() && !n.counted_by_postgres)
    view.reason = fmt::format("synchronous_standby_names is '{}': commits can return without us", n.sync_names);
  view.system = n.facts.system, view.timeline = n.facts.timeline, view.epoch = n.facts.epoch;
  view.counted_by_postgres = n.counted_by_postgres, view.synchronous_standby_names = n.sync_names;
  view.flushed_end = n.facts.flushed_end, view.confirmed_end = n.facts.confirmed_end, view.shipped_end = n.log.end();
  view.valid_end = n.facts.valid_end;
  view.slot_end = slot_end();
  view.committed = n.quorum.committed_ends();
  view.policy = n.facts.policy_text, view.policy_version = n.facts.policy_version;
  view.not_held = n.book.not_held();
  view.marks_durable = n.book.not_held_told() == n.book.not_held();
  view.feedback = feedback(now);
  std::vector<ack::ReplicaAcks> acks;
  for (std::size_t i = 0; i < n.peers.size(); ++i) {
    acks.push_back(n.peers[i]->acks(now));
    ReplicaView& replica = view.replicas.emplace_back();
    n.peers[i]->fill(replica, now);
    replica.in_policy = n.book.mentions(replica.id);
    replica.kept_by_slot = n.met.durable() && n.peers[i]->final_to_what_was_valid();
    for (std::size_t level = 0; level < ack::kLevels; ++level) {
      const Histogram& lag = n.samples.lag(i, ack::kAllLevels[level]);
      replica.lag[level] = {lag.quantile(0.5), lag.quantile(0.99), lag.count()};
    }
  }
  if (now - n.waiting_since <= kWaitsLong) return out;
  const Lsn awaited = n.awaited_end();
  view.waiting_for = waiting_sentences(n.book.in_force(), acks, view.replicas, awaited);
  if (n.book.next())
    for (std::string& sentence : waiting_sentences(*n.book.next(), acks, view.replicas, awaited))
      view.waiting_for.push_back("the new " + std::move(sentence));
  if (!view.waiting_for.empty()) view.waiting = now - n.waiting_since;
  return out;
}

}  // namespace slipstream::node
