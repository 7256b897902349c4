#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "node/counters.h"
#include "node/digest_service.h"
#include "node/hello_check.h"
#include "node/history_keeper.h"
#include "node/record_ends.h"
#include "node/replica_log.h"
#include "node/replica_node.h"
#include "node/state_keeper.h"
#include "protocol/receiver.h"

// How the replica's machines are wired: included by ReplicaNode's own files alone.
namespace slipstream::node {

inline constexpr std::uint32_t kPersistOperation = 1;
inline constexpr std::uint32_t kHistoryOperation = 2;
inline constexpr std::uint32_t kDigestOperation = 3;
inline constexpr std::uint32_t kWriteOperations = 0x100;
inline constexpr Duration kRefuseInterval = milliseconds(20), kAnswerStaleInterval = seconds(1);
inline constexpr Duration kRepeatAck = milliseconds(3);
inline constexpr Duration kHoldAckMax =
    microseconds(500);  // Of a disk whose cache survives a power cut, or an NVMe drive.
inline constexpr Duration kHoldApplied = milliseconds(2);
inline constexpr Duration kPersistInterval = seconds(1);
inline constexpr std::size_t kEpochEntriesMax = 4096;

struct ReplicaNode::Impl {
  using RefuseReason = protocol::RefuseReason;
  using Verdict = protocol::Verdict;

  // A session: asked for (quiescing), welcomed, adopting (being made durable), active.
  enum class Phase : std::uint8_t { kNone, kQuiescing, kWelcomed, kAdopting, kActive };

  Impl(ReplicaOptions o, State state, const wal::Recovered& recovered, std::span<std::byte> ring_memory,
       std::span<std::byte> compare_memory, Instant now)
      : options(std::move(o)),
        keeper(std::move(state), kPersistOperation),
        ring(ring_memory),
        log(wal::SegmentLayout(keeper.state().segment_size), ring, recovered, recovered.next_start,
            {keeper.state().system, {}}, kWriteOperations),
        digests(compare_memory, kDigestOperation),
        history(kHistoryOperation, keeper.state().timeline),
        last_persist(now) {
    if (keeper.state().log_only != options.log_only) keeper.change([&](State& s) { s.log_only = options.log_only; });
    final_end = std::min(keeper.state().final_end, log.durable_end());
    final_durable = final_end;
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
  bool answer_no(const protocol::FrameHeader& to, RefuseReason reason, std::string text, Instant& not_before,
                 Duration interval, Instant now) {
    if (now < not_before) return false;
    not_before = now + interval;
    const Promise& promise = state().promise;
    const bool greeted = promise.epoch < epoch;  // Obeyed from then on, although not adopted yet.
    refusal = protocol::Refuse{reason, greeted ? epoch : promise.epoch, greeted ? identity : promise.identity,
                               std::move(text)};
    refusal_header = to;
    return true;
  }

  // People are told of it, too.
  Verdict refuse(const protocol::FrameHeader& to, RefuseReason reason, std::string text, Instant now) {
    if (answer_no(to, reason, std::move(text), refuse_after, kRefuseInterval, now) &&
        reason != RefuseReason::kNoSession && phase == Phase::kNone)
      refused_reason = fmt::format("{}: {}", protocol::to_string(reason), refusal->text);
    return Verdict::kUnexpected;
  }

  // ---- Handshake

  Verdict on_hello(const protocol::FrameHeader& h, const protocol::Hello& hello, Instant now) {
    if (auto no = objection_to(h, hello, state(), options.name)) {
      const bool other_cluster = no->reason == RefuseReason::kCluster;
      refuse(h, no->reason, std::move(no->text), now);
      return other_cluster ? Verdict::kOtherCluster : Verdict::kStaleEpoch;
    }
    if (log.no_space())
      return refuse(h, RefuseReason::kDirectory,
                    options.name + " has no space left for WAL: what it received cannot be made durable", now);
    if (h.epoch < epoch)  // A late one: its successor was answered already.
      return refuse(h, RefuseReason::kStaleEpoch,
                    fmt::format("{} was greeted in epoch {}, {} comes with {}", options.name, to_string(epoch),
                                hello.primary_name, to_string(h.epoch)),
                    now),
             Verdict::kStaleEpoch;
    if (h.epoch == epoch && (h.session < session || (h.session == session && phase != Phase::kNone))) {
      if (h.session == session && phase == Phase::kWelcomed) welcome_wanted = true;
      // A late copy, which its sender passes over; or a primary that does not know that this epoch was used (E1).
      if (h.session < session || phase > Phase::kWelcomed)
        refuse(h, RefuseReason::kStaleEpoch,
               fmt::format("{} was greeted in epoch {} before", options.name, to_string(epoch)), now);
      return Verdict::kDuplicate;
    }
    end_session();
    phase = Phase::kQuiescing;
    session = h.session, epoch = h.epoch, identity = hello.identity, timeline = h.timeline;
    history.start_over();
    refused_reason.clear();
    // Whoever answered a higher term obeys no lower one again, even if it ends here.
    if (epoch.term > state().promise.epoch.term)
      promise_ticket = keeper.change([&](State& s) { s.promise = {epoch, identity, ""}; });
    quiesce();
    return Verdict::kAccepted;
  }

  void end_session() {
    if (receiver)
      bytes_before += receiver->counters().bytes_received, duplicate_before += receiver->counters().bytes_duplicate;
    receiver.reset();
    digests.stop();
    phase = Phase::kNone;
    welcome_wanted = ack_wanted = false;
    path_reply.reset();
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
    return {state().log_id,    options.name,           state().held_epoch,    state().counted_end,
            state().log_begin, log.durable_end(),      final_durable,         applied_end(),
            window_end(),      state().policy.version, state().standby_ready, state().log_only};
  }

  Lsn window_end() const { return align_down(log.synced_end(), ReplicaLog::kBlock) + ByteCount{ring.size()}; }
  Lsn applied_end() const { return std::min(standby_applied, log.durable_end()); }

  Verdict on_history(const protocol::History& piece) {
    if (phase != Phase::kWelcomed && phase != Phase::kAdopting) return Verdict::kUnexpected;
    return piece.timeline == timeline ? history.on_piece(piece) : Verdict::kBadField;
  }

  Verdict on_policy(const protocol::PolicyUpdate& update, Lsn flushed_end) {
    ack_wanted = true;
    if (update.version <= state().policy.version &&
        !(update.version == state().policy.version && update.text != state().policy.text))
      return Verdict::kDuplicate;
    policy_ticket = keeper.change([&](State& s) {
      s.policy = {update.version, update.text, {}};
      for (const auto& member : update.members) s.policy.members.push_back({member.name, member.id, member.log_id});
      s.not_held = marks_after_update(s.not_held, update.not_held, flushed_end, log.durable_end());
    });
    return Verdict::kAccepted;
  }

  // The primary goes by a welcome that came late, from before a restart or of the directory that was here then: it
  // would ask for ever for what is not here.
  Verdict refuse_other_log(const protocol::FrameHeader& h, Instant now) {
    return refuse(h, RefuseReason::kNoSession, "another welcome: say hello", now);
  }

  Verdict on_adopt(const protocol::FrameHeader& h, const protocol::Adopt& adopt, Instant now) {
    if (phase == Phase::kAdopting || phase == Phase::kActive) {
      ack_wanted = phase == Phase::kActive;
      return Verdict::kDuplicate;
    }
    if (phase != Phase::kWelcomed) return Verdict::kUnexpected;
    if (adopt.adopted_end != log.durable_end()) return refuse_other_log(h, now);
    if (!history.has(timeline)) return Verdict::kUnexpected;  // Its frames were lost; it comes again.
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

  // ---- Cutting the log (E4)

  // From here on nothing is final, fed, or was told to be: bytes behind it may be another life's.
  Lsn kept_end() const {
    return std::max(
        {final_end, state().final_end, standby_flushed, standby_applied, release().fed_end, state().log_begin});
  }

  Verdict on_cut(const protocol::FrameHeader& h, const protocol::Cut& cut, Instant now) {
    if (phase != Phase::kWelcomed) return Verdict::kUnexpected;
    if (cut.old_end != log.durable_end()) return refuse_other_log(h, now);
    if (!state().promise.candidate.empty())  // What it holds may be what the candidate is promoted by (P4).
      return refuse(h, RefuseReason::kFenced,
                    fmt::format("{} has promised term {} to {}: its log is not cut", options.name,
                                state().promise.epoch.term, state().promise.candidate),
                    now);
    if (cut.from < kept_end())
      return refuse(h, RefuseReason::kDivergent,
                    fmt::format("{} was to cut its log at {}, but keeps it to {}: that is final, fed to its standby or "
                                "where the log begins",
                                options.name, to_string(cut.from), to_string(kept_end())),
                    now);
    CHECK(log.settled());
    cut_ticket = keeper.change([&](State& s) {
      s.final_end = std::max(s.final_end, final_end);
      s.replacement = {cut.from, cut.old_end};
    });
    end_session();
    return Verdict::kAccepted;
  }

  // From the moment a cut is asked for nothing else is done: the log is what it was until it is opened anew.
  bool cutting() const { return state().replacement.has_value(); }

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
             fmt::format("{} has promised term {}{}", options.name, promise.epoch.term,
                         promise.candidate.empty() ? "" : " to " + promise.candidate),
             now);
      return Verdict::kStaleEpoch;
    }
    if (h.epoch < epoch || h.epoch < state().promise.epoch) {
      // Late, then its sender passes over the answer; or a primary goes on in an epoch although another life of it used
      // a later one, whose greeting came late (E1). Seldom: late frames keep no other answer back, and two lives that
      // are there at once, by mistake, do not chase each other without a pause.
      if (!refusal)
        answer_no(h, RefuseReason::kStaleEpoch, fmt::format("{} was greeted in a later epoch", options.name),
                  answer_stale_after, kAnswerStaleInterval, now);
      return Verdict::kStaleEpoch;
    }
    if (phase == Phase::kNone) {
      refuse(h, RefuseReason::kNoSession, "no session: say hello", now);
      return Verdict::kOtherSession;
    }
    if (h.epoch > epoch || h.session > session) {  // A late greeting was answered instead of the one that counts.
      refuse(h, RefuseReason::kNoSession, "another session: say hello", now);
      return h.epoch > epoch ? Verdict::kFutureEpoch : Verdict::kOtherSession;
    }
    if (h.session != session) return Verdict::kOtherSession;
    heard_at = now;
    if (const auto* request = std::get_if<protocol::DigestRequest>(&frame.body)) {
      if (phase != Phase::kWelcomed) return Verdict::kUnexpected;
      if (request->range.begin < state().log_begin || request->range.end > log.durable_end())
        return refuse_other_log(h, now), Verdict::kBadRange;
      digests.start(request->range);
      return Verdict::kAccepted;
    }
    if (const auto* piece = std::get_if<protocol::History>(&frame.body)) return on_history(*piece);
    if (const auto* adopt = std::get_if<protocol::Adopt>(&frame.body)) return on_adopt(h, *adopt, now);
    if (const auto* cut = std::get_if<protocol::Cut>(&frame.body)) return on_cut(h, *cut, now);
    if (const auto* refused = std::get_if<protocol::Refuse>(&frame.body)) {
      refused_reason = fmt::format("{}: {}", protocol::to_string(refused->reason), refused->text);
      end_session();
      return Verdict::kAccepted;
    }
    // The rest comes from a primary that has had an ack: from the process before this one, which a late hello of its
    // session reached first.
    if (phase != Phase::kActive) return refuse(h, RefuseReason::kNoSession, "a restart since: say hello", now);
    if (const auto* policy = std::get_if<protocol::PolicyUpdate>(&frame.body)) return on_policy(*policy, h.flushed_end);
    if (const auto* data = std::get_if<protocol::Data>(&frame.body)) {
      const Verdict verdict = receiver->on_data(h, *data, now);
      if (verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate) on_news(h);
      log.on_received(receiver->received_end());
      if (verdict == Verdict::kBadField) leave_session(h, now);
      return verdict;
    }
    if (const auto* probe = std::get_if<protocol::Probe>(&frame.body)) {
      receiver->on_probe(h, *probe, now);
      on_news(h);
      return Verdict::kAccepted;
    }
    if (const auto* path = std::get_if<protocol::PathProbe>(&frame.body)) {
      path_reply = protocol::PathReply{path->number, path->frame_bytes};
      return Verdict::kAccepted;
    }
    return Verdict::kUnexpected;
  }

  // Of two cuts of a batch one is of another life of this primary, which used the same epoch. Here nothing tells which,
  // and the right one would be refused, and asked for, for ever.
  void leave_session(const protocol::FrameHeader& h, Instant now) {
    refuse(h, RefuseReason::kNoSession, "a batch cut in two ways: say hello", now);
    end_session();
  }

  void on_news(const protocol::FrameHeader& h) {
    confirmed_told = std::max(confirmed_told, h.confirmed_end);
    primary_flushed = std::max(primary_flushed, h.flushed_end);
    raise_final();
  }

  // (C3) At a record's end, as the log ends there after a cut or a crash; what is confirmed need not, when data went
  // ahead of it.
  void raise_final() {
    if (cutting()) return;
    if (log.durable_end() > durable_seen) record_ends.push(durable_seen = log.durable_end());
    final_end = std::max(final_end, record_ends.take_up_to(std::max(confirmed_told, standby_flushed), final_end));
  }

  void on_progress() {
    raise_final();
    if (receiver) receiver->on_released(align_down(log.synced_end(), ReplicaLog::kBlock));
    quiesce();
  }

  // ---- Acks

  // What is told of final_end survives a crash: the primary removes WAL below it.

  struct Told {
    Lsn durable, applied, final, window;
    std::uint64_t policy = 0;
    bool standby_ready = false;
    StandbyFeedback feedback;
    bool operator==(const Told&) const = default;
  };
  Told telling() const {
    const std::uint64_t policy = keeper.durable(policy_ticket) ? state().policy.version : 0;
    return {log.durable_end(), applied_end(), final_durable,
            window_end(),      policy,        state().standby_ready && keeper.durable(standby_ticket),
            standby_feedback};
  }

  // Where a write takes less than the wake-ups of an ack of its own, "received" is told along with "durable".
  Duration hold() const {
    const Duration usual = log.write_time();
    return usual <= kHoldAckMax && log.synced_end() < log.received_end() ? usual * 2 : Duration{};
  }

  bool apply_awaited() const { return told.applied < log.apply_awaited_end(); }

  void on_applied(Lsn end, Instant now) {
    if (applied_end() == told.applied) applied_due = now + kHoldApplied;
    standby_applied = std::max(standby_applied, end);
  }

  bool next_ack(OutFrame& out, Instant now) {
    const Told now_told = telling();
    // A window that only crept open is no news of its own.
    Told compared = now_told;
    if ((now_told.window.value - told.window.value) < ring.size() / 4) compared.window = told.window;
    // Nobody waits for it: it goes along with what is durable next, if that comes soon.
    if (!apply_awaited() && now < applied_due) compared.applied = told.applied;
    if (!ack_wanted && !receiver->ack_due(now, hold()) && compared == told && now < repeat_at &&
        now < last_ack + options.heartbeat)
      return false;
    protocol::Ack acked;
    receiver->fill_ack(acked, now);
    acked.durable_end = now_told.durable, acked.applied_end = now_told.applied, acked.final_end = now_told.final;
    acked.policy_version = now_told.policy, acked.standby_ready = now_told.standby_ready,
    acked.log_only = state().log_only;
    acked.restart_point = standby_restart;
    acked.standby_xmin = now_told.feedback.xmin, acked.standby_catalog_xmin = now_told.feedback.catalog_xmin;
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
    return {fed, std::max(primary_flushed, fed), state().timeline, log.apply_awaited_end()};
  }

  void remember_positions(State& s) const {
    s.final_end = std::max(s.final_end, final_end);
    if (log.last_record_begin() > s.scan_begin) s.scan_begin = log.last_record_begin(), s.scan_begin_is_record = true;
    if (log.page_magic() != 0) s.page_magic = log.page_magic();
  }

  bool positions_moved() const {
    return !cutting() && (state().final_end < final_end || state().scan_begin < log.last_record_begin());
  }

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
  std::uint64_t packet_number = 0;
  bool welcome_wanted = false, ack_wanted = false;
  StateKeeper::Ticket promise_ticket = 0, adopt_ticket = 0, policy_ticket = 0, standby_ticket = 0, fence_ticket = 0,
                      settle_ticket = 0, promotion_ticket = 0, cut_ticket = 0;

  std::optional<protocol::PathReply> path_reply;
  std::optional<protocol::Refuse> refusal;
  protocol::FrameHeader refusal_header;
  Instant refuse_after{}, answer_stale_after{};
  std::string refused_reason;

  Lsn confirmed_told{}, primary_flushed{}, final_end{};
  RecordEnds record_ends;
  Lsn durable_seen{};
  Instant applied_due{};  // When what was applied since the last ack is told at the latest.
  Lsn standby_applied{}, standby_flushed{}, standby_restart{};
  StandbyFeedback standby_feedback;
  bool standby_connected = false;
  bool release_all = false;
  Told told{};
  Instant last_ack{}, last_persist{}, heard_at{}, now_seen{};
  Instant repeat_at = kNever;
  Lsn final_writing{}, final_durable{}, scan_begin_writing{}, scan_begin_durable{}, log_begin_writing{},
      log_begin_durable{};
  std::uint64_t bytes_before = 0, duplicate_before = 0;
  VerdictCounters verdicts;
};

}  // namespace slipstream::node
