#include "node/replica_node.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "node/counters.h"
#include "node/digest_service.h"
#include "node/hello_check.h"
#include "node/history_keeper.h"
#include "node/replica_log.h"
#include "node/state_keeper.h"
#include "protocol/receiver.h"

namespace slipstream::node {
namespace {

using protocol::RefuseReason;
using protocol::Verdict;

constexpr std::uint32_t kPersistOperation = 1;
constexpr std::uint32_t kHistoryOperation = 2;
constexpr std::uint32_t kDigestOperation = 3;
constexpr std::uint32_t kWriteOperations = 0x100;
constexpr Duration kRefuseInterval = milliseconds(20);
constexpr Duration kRepeatAck = milliseconds(3);
constexpr Duration kPersistInterval = seconds(1);
constexpr std::size_t kEpochEntriesMax = 4096;

}  // namespace

struct ReplicaNode::Impl {
  // A session: asked for (quiescing), welcomed, adopting (being made durable), active.
  enum class Phase : std::uint8_t { kNone, kQuiescing, kWelcomed, kAdopting, kActive };

  Impl(ReplicaOptions o, State state, const wal::Recovered& recovered, std::span<std::byte> ring_memory, std::span<std::byte> compare_memory, Instant now)
      : options(std::move(o)),
        keeper(std::move(state), kPersistOperation),
        ring(ring_memory),
        log(wal::SegmentLayout(keeper.state().segment_size), ring, recovered, recovered.next_start, {keeper.state().system, {}}, kWriteOperations),
        digests(compare_memory, kDigestOperation),
        history(kHistoryOperation, keeper.state().timeline),
        last_persist(now) {
    if (keeper.state().log_only != options.log_only) keeper.change([&](State& s) { s.log_only = options.log_only; });
    final_end = std::min(keeper.state().final_end, log.durable_end());
    scan_begin_durable = keeper.state().scan_begin;
    log_begin_durable = keeper.state().log_begin;
  }

  const State& state() const { return keeper.state(); }

  protocol::FrameHeader header(Instant now) {
    protocol::FrameHeader h;
    h.cluster = state().system;
    h.source = options.id, h.destination = options.primary;
    h.session = session, h.packet_number = ++packet_number;
    h.epoch = epoch, h.timeline = state().timeline;
    h.sent_at = static_cast<std::uint64_t>(now.ns);
    return h;
  }

  // A refusal carries the session and epoch of what it answers, so that its receiver can tell.
  Verdict refuse(const protocol::FrameHeader& to, RefuseReason reason, std::string text, Instant now) {
    if (now < refuse_after) return Verdict::kUnexpected;
    refuse_after = now + kRefuseInterval;
    refusal = protocol::Refuse{reason, state().promise.epoch, state().promise.identity, std::move(text)};
    refusal_header = to;
    if (reason != RefuseReason::kNoSession && phase == Phase::kNone) refused_reason = fmt::format("{}: {}", protocol::to_string(reason), refusal->text);
    return Verdict::kUnexpected;
  }

  // ---- Handshake

  Verdict on_hello(const protocol::FrameHeader& h, const protocol::Hello& hello, Instant now) {
    if (auto no = objection_to(h, hello, state(), options.name)) {
      const bool other_cluster = no->reason == RefuseReason::kCluster;
      refuse(h, no->reason, std::move(no->text), now);
      return other_cluster ? Verdict::kOtherCluster : Verdict::kStaleEpoch;
    }
    if (log.no_space()) return refuse(h, RefuseReason::kDirectory, options.name + " has no space left for WAL: what it received cannot be made durable", now);
    if (phase != Phase::kNone && h.epoch == epoch && h.session <= session) {
      if (h.session == session && phase == Phase::kWelcomed) welcome_wanted = true;
      return Verdict::kDuplicate;
    }
    end_session();
    phase = Phase::kQuiescing;
    session = h.session, epoch = h.epoch, identity = hello.identity, timeline = h.timeline;
    wanted_policy = hello.policy_version;
    history.start_over();
    refused_reason.clear();
    // Whoever answered a higher term obeys no lower one again, even if it ends here.
    if (epoch.term > state().promise.epoch.term) promise_ticket = keeper.change([&](State& s) { s.promise = {epoch, identity, ""}; });
    quiesce();
    return Verdict::kAccepted;
  }

  void end_session() {
    if (receiver) bytes_before += receiver->counters().bytes_received, duplicate_before += receiver->counters().bytes_duplicate;
    receiver.reset();
    digests.stop();
    phase = Phase::kNone;
    welcome_wanted = ack_wanted = false;
    confirmed_told = {};
  }

  // What was acknowledged as received stays held: it is made durable before the new session says what is held.
  void quiesce() {
    if (phase != Phase::kQuiescing || !log.settled() || !keeper.durable(promise_ticket)) return;
    log.rewind();
    phase = Phase::kWelcomed;
    welcome_wanted = true;
  }

  protocol::Welcome welcome() const {
    return {state().log_id, options.name, state().held_epoch, state().counted_end, state().log_begin, log.durable_end(), final_end, applied_end(),
            window_end(), state().policy.version, state().standby_ready, state().log_only};
  }

  Lsn window_end() const { return align_down(log.synced_end(), ReplicaLog::kBlock) + ByteCount{ring.size()}; }
  Lsn applied_end() const { return std::min(standby_applied, log.durable_end()); }

  Verdict on_history(const protocol::History& piece) {
    if (phase != Phase::kWelcomed && phase != Phase::kAdopting) return Verdict::kUnexpected;
    return piece.timeline == timeline ? history.on_piece(piece) : Verdict::kBadField;
  }

  Verdict on_policy(const protocol::PolicyUpdate& update) {
    if (phase < Phase::kWelcomed) return Verdict::kUnexpected;
    ack_wanted = true;
    if (update.version <= state().policy.version && !(update.version == state().policy.version && update.text != state().policy.text)) return Verdict::kDuplicate;
    policy_ticket = keeper.change([&](State& s) {
      s.policy = {update.version, update.text, {}};
      for (const auto& member : update.members) s.policy.members.push_back({member.name, member.id, member.log_id});
    });
    return Verdict::kAccepted;
  }

  Verdict on_adopt(const protocol::Adopt& adopt) {
    if (phase == Phase::kAdopting || phase == Phase::kActive) {
      ack_wanted = phase == Phase::kActive;
      return Verdict::kDuplicate;
    }
    if (phase != Phase::kWelcomed || adopt.adopted_end != log.durable_end()) return Verdict::kUnexpected;
    if (state().policy.version < wanted_policy || !history.has(timeline)) return Verdict::kUnexpected;  // Their frames were lost; it comes again.
    phase = Phase::kAdopting;
    adopt_ticket = keeper.change([&](State& s) {
      s.held_epoch = epoch;
      s.counted_end = adopt.adopted_end;
      s.timeline = timeline;
      s.promise = {epoch, identity, ""};
      if (s.epoch_map.size() >= kEpochEntriesMax) s.epoch_map.erase(s.epoch_map.begin());
      // An epoch in which nothing was written leaves no entry: the next one begins at the same position.
      if (!s.epoch_map.empty() && s.epoch_map.back().begin == adopt.adopted_end) s.epoch_map.pop_back();
      s.epoch_map.push_back({epoch, adopt.adopted_end, timeline, identity});
      remember_positions(s);
    });
    return Verdict::kAccepted;
  }

  void activate_if_durable(Instant now) {
    if (phase != Phase::kAdopting || !keeper.durable(adopt_ticket)) return;
    phase = Phase::kActive;
    receiver.emplace(ring, log.durable_end(), align_down(log.synced_end(), ReplicaLog::kBlock), now);
    ack_wanted = true;
  }

  // ---- Data

  Verdict on_session_frame(const protocol::Frame& frame, Instant now) {
    const auto& h = frame.header;
    if (h.cluster != state().system) return Verdict::kOtherCluster;
    if (h.epoch.term < state().promise.epoch.term) {  // A superseded primary must hear of it (E2).
      const Promise& promise = state().promise;
      refuse(h, promise.candidate.empty() ? RefuseReason::kStaleEpoch : RefuseReason::kFenced,
             fmt::format("{} has promised term {}{}", options.name, promise.epoch.term, promise.candidate.empty() ? "" : " to " + promise.candidate), now);
      return Verdict::kStaleEpoch;
    }
    if (h.epoch < epoch || h.epoch < state().promise.epoch) return Verdict::kStaleEpoch;
    if (phase == Phase::kNone) {
      refuse(h, RefuseReason::kNoSession, "no session: say hello", now);
      return Verdict::kOtherSession;
    }
    if (h.epoch > epoch) return Verdict::kFutureEpoch;
    if (h.session != session) return Verdict::kOtherSession;
    heard_at = now;
    if (const auto* request = std::get_if<protocol::DigestRequest>(&frame.body)) {
      if (phase != Phase::kWelcomed) return Verdict::kUnexpected;
      if (request->range.begin < state().log_begin || request->range.end > log.durable_end()) return Verdict::kBadRange;
      digests.start(request->range);
      return Verdict::kAccepted;
    }
    if (const auto* piece = std::get_if<protocol::History>(&frame.body)) return on_history(*piece);
    if (const auto* policy = std::get_if<protocol::PolicyUpdate>(&frame.body)) return on_policy(*policy);
    if (const auto* adopt = std::get_if<protocol::Adopt>(&frame.body)) return on_adopt(*adopt);
    if (const auto* refused = std::get_if<protocol::Refuse>(&frame.body)) {
      refused_reason = fmt::format("{}: {}", protocol::to_string(refused->reason), refused->text);
      end_session();
      return Verdict::kAccepted;
    }
    if (phase != Phase::kActive) return Verdict::kUnexpected;
    if (const auto* data = std::get_if<protocol::Data>(&frame.body)) {
      const Verdict verdict = receiver->on_data(h, *data, now);
      if (verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate) on_news(h);
      log.on_received(receiver->received_end());
      return verdict;
    }
    if (const auto* probe = std::get_if<protocol::Probe>(&frame.body)) {
      receiver->on_probe(h, *probe, now);
      on_news(h);
      return Verdict::kAccepted;
    }
    return Verdict::kUnexpected;
  }

  void on_news(const protocol::FrameHeader& h) {
    confirmed_told = std::max(confirmed_told, h.confirmed_end);
    primary_flushed = std::max(primary_flushed, h.flushed_end);
    raise_final();
  }

  // (C3)
  void raise_final() { final_end = std::max(final_end, std::min(std::max(confirmed_told, standby_flushed), log.durable_end())); }

  void on_progress() {
    raise_final();
    if (receiver) receiver->on_released(align_down(log.synced_end(), ReplicaLog::kBlock));
    quiesce();
  }

  // ---- Acks

  struct Told {
    Lsn durable, applied, final, window;
    std::uint64_t policy = 0;
    bool standby_ready = false;
    bool operator==(const Told&) const = default;
  };
  Told telling() const {
    const std::uint64_t policy = keeper.durable(policy_ticket) ? state().policy.version : 0;
    return {log.durable_end(), applied_end(), final_end, window_end(), policy, state().standby_ready && keeper.durable(standby_ticket)};
  }

  bool next_ack(OutFrame& out, Instant now) {
    const Told now_told = telling();
    // A window that only crept open is no news of its own.
    Told compared = now_told;
    if ((now_told.window.value - told.window.value) < ring.size() / 4) compared.window = told.window;
    if (!ack_wanted && !receiver->ack_due(now) && compared == told && now < repeat_at && now < last_ack + options.heartbeat) return false;
    protocol::Ack acked;
    receiver->fill_ack(acked, now);
    acked.durable_end = now_told.durable, acked.applied_end = now_told.applied, acked.final_end = now_told.final;
    acked.policy_version = now_told.policy, acked.standby_ready = now_told.standby_ready, acked.log_only = state().log_only;
    acked.restart_point = standby_restart;
    out.head_bytes = protocol::encode(header(now), acked, out.head);
    // Nothing asks for an ack that was lost after the data had arrived: it is said twice.
    repeat_at = compared == told ? kNever : now + kRepeatAck;
    told = now_told;
    ack_wanted = false;
    last_ack = now;
    return true;
  }

  Release release() const {
    const Lsn fed = release_all ? log.durable_end() : std::min(final_end, log.durable_end());
    return {fed, std::max(primary_flushed, fed), state().timeline};
  }

  void remember_positions(State& s) const {
    s.final_end = std::max(s.final_end, final_end);
    if (log.last_record_begin() > s.scan_begin) s.scan_begin = log.last_record_begin(), s.scan_begin_is_record = true;
    if (log.page_magic() != 0) s.page_magic = log.page_magic();
  }

  bool positions_moved() const { return state().final_end < final_end || state().scan_begin < log.last_record_begin(); }

  void persist_lazily(Instant now) {
    if (now < last_persist + kPersistInterval || !positions_moved()) return;
    last_persist = now;
    keeper.change([&](State& s) { remember_positions(s); });
  }

  ReplicaOptions options;
  StateKeeper keeper;
  std::span<std::byte> ring;
  ReplicaLog log;
  DigestService digests;
  HistoryKeeper history;
  std::optional<protocol::Receiver> receiver;

  Phase phase = Phase::kNone;
  SessionId session{};
  Epoch epoch{};
  Identity identity{};
  TimelineId timeline{};
  std::uint64_t wanted_policy = 0;
  std::uint64_t packet_number = 0;
  bool welcome_wanted = false, ack_wanted = false;
  StateKeeper::Ticket promise_ticket = 0, adopt_ticket = 0, policy_ticket = 0, standby_ticket = 0, fence_ticket = 0;

  std::optional<protocol::Refuse> refusal;
  protocol::FrameHeader refusal_header;
  Instant refuse_after{};
  std::string refused_reason;

  Lsn confirmed_told{}, primary_flushed{}, final_end{};
  Lsn standby_applied{}, standby_flushed{}, standby_restart{};
  bool standby_connected = false;
  bool release_all = false;
  Told told{};
  Instant last_ack{}, last_persist{}, heard_at{}, now_seen{};
  Instant repeat_at = kNever;
  Lsn scan_begin_writing{}, scan_begin_durable{}, log_begin_writing{}, log_begin_durable{};
  std::uint64_t bytes_before = 0, duplicate_before = 0;
  VerdictCounters verdicts;
};

ReplicaNode::ReplicaNode(ReplicaOptions options, State state, wal::Recovered recovered, std::span<std::byte> ring, std::span<std::byte> compare_memory, Instant now)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(state), recovered, ring, compare_memory, now)) {}
ReplicaNode::~ReplicaNode() = default;

Verdict ReplicaNode::on_frame(std::span<const std::byte> bytes, Instant now) {
  Impl& n = *impl_;
  protocol::Frame frame;
  if (const Verdict verdict = protocol::decode(bytes, frame); verdict != Verdict::kAccepted) return n.verdicts.count(verdict);
  const auto& h = frame.header;
  if (h.stream != 0) return n.verdicts.count(Verdict::kOtherStream);
  if (h.destination != n.options.id || h.source != n.options.primary) return n.verdicts.count(Verdict::kUnknownNode);
  if (const auto* hello = std::get_if<protocol::Hello>(&frame.body)) return n.verdicts.count(n.on_hello(h, *hello, now));
  return n.verdicts.count(n.on_session_frame(frame, now));
}

void ReplicaNode::on_disk(DiskDone done, Instant now) {
  Impl& n = *impl_;
  n.now_seen = now;
  if (done.id == kPersistOperation) {
    n.keeper.on_done(done.status, now);
    if (done.status == DiskStatus::kOk) n.scan_begin_durable = n.scan_begin_writing, n.log_begin_durable = n.log_begin_writing;
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

void ReplicaNode::on_standby(const StandbyEvent& event, Instant) {
  Impl& n = *impl_;
  if (const auto* connected = std::get_if<StandbyConnected>(&event)) {
    n.standby_connected = true;
    n.standby_applied = n.standby_flushed = {};  // Perhaps another standby than before.
    n.standby_restart = connected->restart_point;
    // It counts from now on: its restart point lies inside the log (Q2).
    if (connected->restart_point >= n.state().log_begin && !n.state().standby_ready) n.standby_ticket = n.keeper.change([](State& s) { s.standby_ready = true; });
  } else if (const auto* reply = std::get_if<StandbyReply>(&event)) {
    n.standby_applied = std::max(n.standby_applied, reply->apply);
    n.standby_flushed = std::max(n.standby_flushed, reply->flush);
    n.raise_final();
  } else {
    n.standby_connected = false;
  }
}

void ReplicaNode::on_deadline(Instant now) {
  impl_->now_seen = now;
  impl_->persist_lazily(now);
}

void ReplicaNode::raise_log_begin(Lsn wanted) {
  Impl& n = *impl_;
  const Lsn limit = std::min(n.release().fed_end, n.scan_begin_durable);
  const Lsn begin = align_down(std::min(wanted, limit), n.state().segment_size.value);
  if (begin > n.state().log_begin) n.keeper.change([&](State& s) { s.log_begin = begin; });
}

Lsn ReplicaNode::log_begin() const { return impl_->log_begin_durable; }

bool ReplicaNode::next_frame(NodeId peer, std::size_t, OutFrame& out, Instant now) {
  Impl& n = *impl_;
  out.payload = {};
  if (peer != n.options.primary) return false;
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
  return n.phase == Impl::Phase::kActive && n.next_ack(out, now);
}

std::optional<WriteOp> ReplicaNode::next_write(Instant now) { return impl_->log.next_write(now); }
std::optional<ReadOp> ReplicaNode::next_read() { return impl_->digests.next_read(); }
std::optional<PersistOp> ReplicaNode::next_persist() {
  Impl& n = *impl_;
  auto op = n.keeper.next(n.now_seen);
  if (op) n.scan_begin_writing = n.state().scan_begin, n.log_begin_writing = n.state().log_begin;
  return op;
}
std::optional<KeepHistoryOp> ReplicaNode::next_history() { return impl_->history.next(); }

Release ReplicaNode::release() const { return impl_->release(); }

Instant ReplicaNode::deadline() const {
  const Impl& n = *impl_;
  Instant at = n.log.retry_at();
  if (n.positions_moved()) at = std::min(at, n.last_persist + kPersistInterval);
  if (n.receiver) at = std::min({at, n.receiver->deadline(), n.repeat_at, n.last_ack + n.options.heartbeat});
  return at;
}

std::expected<void, Error> ReplicaNode::fence(std::uint32_t term, const std::string& candidate, bool supersede, Instant) {
  Impl& n = *impl_;
  const Promise& promise = n.state().promise;
  const auto refuse = [&](std::string what, std::string remedy) {
    return std::unexpected(Error{ExitCode::kRefused, std::move(what), "fence of " + n.options.name, std::move(remedy)});
  };
  if (n.state().promoted)
    return refuse(fmt::format("{} was promoted already, in term {}", n.options.name, promise.epoch.term), "it is a primary now: make other replicas from it with init-standby");
  if (term == promise.epoch.term && promise.candidate == candidate) return {};  // The same promise again.
  if (!promise.candidate.empty() && promise.candidate != candidate && !supersede)
    return refuse(fmt::format("{} has promised term {} to {}", n.options.name, promise.epoch.term, promise.candidate),
                  fmt::format("let {} finish its promotion, or give it up and repeat with --supersede", promise.candidate));
  if (term < promise.epoch.term || (term == promise.epoch.term && !supersede))
    return refuse(fmt::format("{} has promised term {} already, {} is not above it", n.options.name, promise.epoch.term, term), "name a higher --term");
  n.end_session();
  n.refused_reason.clear();
  n.fence_ticket = n.keeper.change([&](State& s) {
    s.promise = {{term, 0}, {}, candidate};
    n.remember_positions(s);
  });
  return {};
}

bool ReplicaNode::fenced() const {
  const Impl& n = *impl_;
  return !n.state().promise.candidate.empty() && n.phase == Impl::Phase::kNone && n.log.settled() && n.keeper.durable(n.fence_ticket);
}

Evidence ReplicaNode::evidence() const {
  const Impl& n = *impl_;
  const State& s = n.state();
  return {n.options.name, n.options.id, s.log_id, s.system, s.timeline, s.promise, s.held_epoch, std::max(s.counted_end, n.log.durable_end()), s.log_begin,
          n.log.durable_end(), n.final_end, s.standby_ready, s.log_only, s.epoch_map, s.policy, {}};
}

void ReplicaNode::release_everything() {
  CHECK(fenced());
  impl_->release_all = true;
}

bool ReplicaNode::released() const { return impl_->release_all; }
void ReplicaNode::mark_promoted() {
  impl_->keeper.change([](State& s) { s.promoted = true; });
}

Snapshot ReplicaNode::snapshot(Instant) const {
  const Impl& n = *impl_;
  const State& s = n.state();
  Snapshot out{n.options.name, "replica", {}, {}, n.verdicts.view()};
  ReplicaSelfView& view = out.replica;
  if (s.promoted) view.state = "promoted";
  else if (!s.promise.candidate.empty()) view.state = "fenced";
  else if (n.log.no_space()) view.state = "no_space", view.reason = "the disk is full: nothing more is acknowledged until there is room";
  else if (n.phase == Impl::Phase::kActive) view.state = "receiving";
  else if (!n.refused_reason.empty()) view.state = "refused";
  else view.state = n.phase == Impl::Phase::kNone ? "waiting_for_primary" : "comparing";
  if (view.reason.empty()) view.reason = n.refused_reason;
  if (n.log.fault() != wal::ScanFault::kNone) view.reason = fmt::format("the log does not scan behind {}: {}", to_string(n.log.fault_at()), wal::to_string(n.log.fault()));
  view.system = s.system, view.timeline = s.timeline, view.log_id = s.log_id, view.held_epoch = s.held_epoch;
  view.promised_epoch = s.promise.epoch, view.promised_to = s.promise.candidate, view.policy = s.policy.text;
  view.log_begin = s.log_begin, view.received_end = n.log.received_end(), view.synced_end = n.log.synced_end(), view.durable_end = n.log.durable_end();
  view.final_end = n.final_end, view.fed_end = release().fed_end, view.applied_end = n.applied_end(), view.primary_flushed_end = n.primary_flushed;
  view.standby_connected = n.standby_connected, view.standby_ready = s.standby_ready, view.log_only = s.log_only;
  view.bytes_received = n.bytes_before + (n.receiver ? n.receiver->counters().bytes_received : 0);
  view.bytes_duplicate = n.duplicate_before + (n.receiver ? n.receiver->counters().bytes_duplicate : 0);
  return out;
}

}  // namespace slipstream::node
