#include "node/peer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace slipstream::node {
namespace {

using protocol::RefuseReason;
using protocol::Verdict;

constexpr Duration kRetry = milliseconds(100);
constexpr Duration kRefusedRetry = seconds(2);
constexpr Duration kFeedbackKept = seconds(60);  // A walsender's patience with a silent standby.
constexpr Duration kNewsHold = milliseconds(1);
constexpr std::uint32_t kHistoryPiece = 1024;
constexpr std::array<std::byte, protocol::kFrameBytesMax> kPadding{};

}  // namespace

Peer::Peer(ack::Member member, const PrimaryFacts& facts, const ShipLog& log, std::span<std::byte> memory,
           std::uint32_t first_operation, protocol::RateLimits limits)
    : member_(std::move(member)), facts_(facts), log_(log), limits_(limits), slots_(memory, first_operation) {}

protocol::FrameHeader Peer::header(Instant now, Lsn position) {
  protocol::FrameHeader h;
  h.cluster = facts_.system;
  h.source = facts_.id;
  h.destination = member_.id;
  h.session = session_;
  h.packet_number = ++packet_number_;
  h.epoch = facts_.epoch;
  h.timeline = facts_.timeline;
  h.position = position;
  h.flushed_end = facts_.flushed_end;
  h.confirmed_end = facts_.confirmed_end;
  h.sent_at = static_cast<std::uint64_t>(now.ns);
  return h;
}

void Peer::drop_session() {
  if (sender_)
    frames_before_ += sender_->counters().frames_sent, bytes_before_ += sender_->counters().bytes_sent,
        resent_before_ += sender_->counters().bytes_resent;
  state_ = State::kIdle;
  sender_.reset();
  last_record_.reset();
  streaming_ = policy_told_ = slow_ = false;
  feedback_ = {};
  control_.clear();
  slots_.forget();  // What is being read says nothing of the files as they are in the next session.
}

void Peer::on_new_epoch(Instant now) {
  session_ = {};
  reason_.clear();
  begin_handshake(now);
}

void Peer::begin_handshake(Instant now) {
  if (!facts_.running || facts_.superseded) return;
  drop_session();
  session_ = SessionId{session_.value + 1};
  say_hello(now);
}

void Peer::say_hello(Instant now) {
  state_ = State::kHello;
  control_.clear();
  send_later(protocol::Hello{facts_.identity, facts_.name, protocol::kFormatVersion, protocol::kFormatVersion,
                             facts_.server_version_num, facts_.segment_size, facts_.flushed_end,
                             facts_.policy_version});
  retry_at_ = now + kRetry;
}

void Peer::refuse(RefuseReason reason, std::string text, Instant now) {
  drop_session();
  state_ = State::kRefused;
  reason_ = std::move(text);
  send_later(protocol::Refuse{reason, facts_.epoch, facts_.identity, reason_});
  retry_at_ = now + kRefusedRetry;
}

Verdict Peer::on_frame(const protocol::Frame& frame, Instant now) {
  const auto& h = frame.header;
  if (const auto* refused = std::get_if<protocol::Refuse>(&frame.body)) return on_refuse(h, *refused, now);
  if (h.epoch != facts_.epoch) return h.epoch < facts_.epoch ? Verdict::kStaleEpoch : Verdict::kFutureEpoch;
  if (h.session != session_) return Verdict::kOtherSession;
  Verdict verdict = Verdict::kUnexpected;
  if (const auto* welcome = std::get_if<protocol::Welcome>(&frame.body))
    verdict = on_welcome(*welcome, now);
  else if (const auto* digests = std::get_if<protocol::DigestReply>(&frame.body))
    verdict = on_digests(*digests, now);
  else if (const auto* acked = std::get_if<protocol::Ack>(&frame.body))
    verdict = on_ack(*acked, now);
  else if (const auto* passed = std::get_if<protocol::PathReply>(&frame.body); passed && state_ == State::kActive)
    path_.on_reply(*passed, now), verdict = Verdict::kAccepted;
  if (verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate) {
    last_heard_ = now;
    heard_ = true;
  }
  return verdict;
}

Verdict Peer::on_refuse(const protocol::FrameHeader& from, const protocol::Refuse& refused, Instant now) {
  if (from.session != session_ || from.epoch != facts_.epoch) return Verdict::kOtherSession;
  last_heard_ = now;
  heard_ = true;
  const bool higher = refused.promised.term > facts_.epoch.term;
  const bool other_owner = refused.promised.term == facts_.epoch.term && !refused.promised_identity.value.none() &&
                           refused.promised_identity != facts_.identity;
  if (higher || other_owner) superseding_ = refused;
  // For an epoch of ours that is no older: in this life the replica cannot know it, nor this one before its greeting.
  const bool used = refused.reason == RefuseReason::kStaleEpoch && refused.promised_identity == facts_.identity &&
                    refused.promised.term == facts_.epoch.term && refused.promised >= facts_.epoch;
  if (used && refused.promised == facts_.epoch && state_ != State::kHello)
    return Verdict::kDuplicate;  // A late answer to a greeting that came twice.
  if (used) used_epoch_ = refused.promised;
  if (refused.reason == RefuseReason::kNoSession) {
    if (state_ == State::kActive || state_ == State::kAdopting || state_ == State::kComparing ||
        state_ == State::kCutting)
      begin_handshake(now);
    return Verdict::kAccepted;
  }
  drop_session();
  state_ = State::kRefused;
  reason_ = fmt::format("{}: {}", protocol::to_string(refused.reason), refused.text);
  retry_at_ = now + kRefusedRetry;
  return Verdict::kAccepted;
}

Verdict Peer::on_welcome(const protocol::Welcome& welcome, Instant now) {
  if (state_ != State::kHello)
    return state_ == State::kComparing || state_ == State::kCutting || state_ == State::kAdopting
               ? Verdict::kDuplicate
               : Verdict::kUnexpected;
  // Positions heard in this process life from the same log stay true even if its state file is a second older.
  const Lsn known_final_end = log_id_ == welcome.log_id ? std::max(final_end_, welcome.final_end) : welcome.final_end;
  welcome_ = welcome;
  ever_welcomed_ = true;
  log_id_ = welcome.log_id;
  ends_[ack::Level::kReceived] = ends_[ack::Level::kDurable] = welcome.durable_end;
  ends_[ack::Level::kApplied] = std::min(welcome.applied_end, welcome.durable_end);
  final_end_ = welcome.final_end;
  policy_version_ = welcome.policy_version;
  standby_ready_ = welcome.standby_ready;
  log_only_ = welcome.log_only;
  std::erase_if(adopted_in_, [&](Epoch each) { return each < welcome.held_epoch; });
  const bool above_earlier = welcome.held_epoch.term == facts_.epoch.term && welcome.held_epoch > facts_.earlier_epoch;
  if (above_earlier && std::ranges::find(adopted_in_, welcome.held_epoch) == adopted_in_.end()) {
    used_epoch_ = welcome.held_epoch;
    drop_session();
  } else if (welcome.name != member_.name) {
    refuse(
        RefuseReason::kUnknownNode,
        fmt::format("the node with number {} calls itself {}, but is configured as {}: make the configurations agree",
                    member_.id.value, welcome.name, member_.name),
        now);
  } else if (welcome.durable_end > known_end() && (!may_cut() || known_final_end > known_end())) {
    refuse(RefuseReason::kPrimaryBehind,
           fmt::format("{} holds WAL to {}, but this primary's PostgreSQL has flushed only to {}: it lost flushed WAL. "
                       "Promote {} instead",
                       member_.name, to_string(welcome.durable_end), to_string(known_end()), member_.name),
           now);
  } else {
    comparison_.start({welcome.log_begin, std::min(welcome.durable_end, known_end())}, welcome.final_end,
                      known_final_end);
    start_comparison(now);
  }
  return Verdict::kAccepted;
}

void Peer::refuse_copy(const std::string& of, Instant now) {
  refuse(RefuseReason::kUnknownNode,
         fmt::format("{} has the same log id as {}: its directory is a copy. Make it anew with init-standby",
                     member_.name, of),
         now);
}

void Peer::start_comparison(Instant now) {
  state_ = State::kComparing;
  reason_.clear();
  if (comparison_.done()) return on_compared(now);
  if (const auto range = comparison_.wanted()) send_later(protocol::DigestRequest{*range});
  retry_at_ = now + kRetry;
}

// What lies beyond was written by a life of PostgreSQL that lost it: nobody was told of it (S1).
void Peer::on_compared(Instant now) {
  welcome_.durable_end > comparison_.compared_end() ? send_cut(now) : send_adoption(now);
}

// In an epoch that it holds already everything came from here, over this connection.
bool Peer::may_cut() const { return facts_.may_cut && welcome_.held_epoch < facts_.epoch; }

// Bytes that are no longer PostgreSQL's own were never acknowledged, if all that was written is flushed, and never
// final, if they are not below that. Those before the first of them may have been: the cut is exact (S2).
void Peer::on_difference(LsnRange block, Instant now) {
  if (may_cut() && block.end > comparison_.known_final_end()) {
    comparison_.search();
    return start_comparison(now);
  }
  refuse_divergent(block, now);
}

void Peer::refuse_divergent(LsnRange block, Instant now) {
  refuse(RefuseReason::kDivergent,
         fmt::format("{} and this primary hold different bytes in {}{}: find out which is right, then make the other "
                     "anew (init-standby)",
                     member_.name, to_string(block),
                     block.end <= comparison_.known_final_end() ? ", below what was final" : ""),
         now);
}

void Peer::send_cut(Instant now) {
  state_ = State::kCutting;
  reason_ = fmt::format("{} holds WAL from {} to {} that PostgreSQL lost before it was flushed: it is being cut off",
                        member_.name, to_string(comparison_.compared_end()), to_string(welcome_.durable_end));
  control_.clear();
  send_later(protocol::Cut{comparison_.compared_end(), welcome_.durable_end});
  retry_at_ = now + kRetry;
}

Verdict Peer::on_digests(const protocol::DigestReply& reply, Instant) {
  return state_ == State::kComparing ? comparison_.on_reply(reply) : Verdict::kUnexpected;
}

void Peer::go_on_comparing(Comparison::Outcome outcome, LsnRange block, Instant now) {
  switch (outcome) {
    case Comparison::Outcome::kGoesOn:
      if (const auto range = comparison_.wanted()) {
        send_later(protocol::DigestRequest{*range});
        retry_at_ = now + kRetry;
      }
      break;
    case Comparison::Outcome::kDone:
      on_compared(now);
      break;
    case Comparison::Outcome::kDifferent:
      on_difference(block, now);
      break;
    case Comparison::Outcome::kFound:
      comparison_.compared_end() >= comparison_.known_final_end() ? send_cut(now) : refuse_divergent(block, now);
      break;
    case Comparison::Outcome::kGone:
      refuse(RefuseReason::kWalGone,
             fmt::format("the WAL you need is gone: {} is no longer in the primary's pg_wal, so it cannot be compared "
                         "with what {} holds. Make {} anew with init-standby, or restore the segments there",
                         to_string(block), member_.name, member_.name),
             now);
      break;
  }
}

void Peer::send_adoption(Instant now) {
  state_ = State::kAdopting;
  if (adopted_in_.empty() || adopted_in_.back() != facts_.epoch) adopted_in_.push_back(facts_.epoch);
  control_.clear();
  if (facts_.timeline.value > 1) {
    const auto total = static_cast<std::uint32_t>(facts_.history.size());
    for (std::uint32_t offset = 0; offset == 0 || offset < total; offset += kHistoryPiece)
      send_later(protocol::History{facts_.timeline, total, offset, facts_.history.substr(offset, kHistoryPiece)});
  }
  send_later(protocol::Adopt{welcome_.durable_end});
  retry_at_ = now + kRetry;
}

// Only to a log that holds what was valid: by a new policy, fewer may recover what was committed by the old one (Q5).
void Peer::on_policy_changed(Instant now) {
  if (state_ != State::kActive || !holds_what_was_valid()) return;
  policy_told_ = true;
  send_later(protocol::PolicyUpdate{facts_.policy_version, facts_.policy_text, facts_.members, facts_.not_held});
  retry_at_ = now + kRetry;
}

Verdict Peer::on_ack(const protocol::Ack& acked, Instant now) {
  if (state_ == State::kAdopting) {
    if (acked.received_end != welcome_.durable_end) return Verdict::kBadAck;
    state_ = State::kActive;
    sender_.emplace(welcome_.durable_end, acked.window_end, facts_.heartbeat, now, limits_);
    sender_->on_news(facts_.flushed_end, facts_.confirmed_end, {}, now);
    path_ = protocol::PathMtu(now);
    read_cursor_ = welcome_.durable_end;
    last_record_.emplace(wal::SegmentLayout(facts_.segment_size), facts_.system, welcome_.durable_end);
    mark_targets();
    catch_up_ = CatchUp(ends_[ack::Level::kReceived], facts_.valid_end, now);
  }
  if (state_ != State::kActive) return Verdict::kUnexpected;
  const Verdict verdict = sender_->on_ack(acked, now);
  if (verdict == Verdict::kOtherSession) begin_handshake(now);  // A copied handshake opened it for a later process.
  if (verdict != Verdict::kAccepted) return verdict;
  ends_[ack::Level::kReceived] = std::max(ends_[ack::Level::kReceived], acked.received_end);
  ends_[ack::Level::kDurable] = std::max(ends_[ack::Level::kDurable], acked.durable_end);
  ends_[ack::Level::kApplied] = std::max(ends_[ack::Level::kApplied], std::min(acked.applied_end, acked.durable_end));
  final_end_ = std::max(final_end_, acked.final_end);
  policy_version_ = acked.policy_version;
  standby_ready_ = acked.standby_ready;
  log_only_ = acked.log_only;
  feedback_ = {acked.standby_xmin, acked.standby_catalog_xmin};
  look_at_progress();
  if (!policy_told_) on_policy_changed(now);
  slots_.release_below(sender_->received_end());
  look_for_black_hole(now);
  return Verdict::kAccepted;
}

void Peer::look_for_black_hole(Instant now) {
  if (path_.probed() && sender_->stalls_since(path_.changed())) path_.on_black_hole(now);
}

// Whoever holds the last record that ends at or below what was valid holds all that was acknowledged: PostgreSQL
// acknowledges no commit before its record is complete and flushed.
void Peer::mark_targets() {
  shipped_target_ = std::max(log_.end(), facts_.confirmed_end);
  aimed_at_ = valid_target_ = std::max(facts_.valid_end, facts_.flushed_at_connection);
  last_record_->aim(valid_target_);
  take_last_record();
}

void Peer::look_for_last_record(LsnRange offered, std::span<const std::byte> bytes) {
  if (!last_record_) return;
  CHECK(last_record_->seen_end() == offered.begin && bytes.size() == offered.size().value);
  last_record_->on_bytes(bytes);
  take_last_record();
}

// While it does not stream the marks can move on.
void Peer::take_last_record() {
  if (!last_record_ || last_record_->seen_end() < valid_target_) return;
  if (const auto end = last_record_->end()) valid_target_ = *end;
  if (streaming_) last_record_.reset();
}

// It streams once it has received all that was shipped when it last fell short of memory: while files are read for it,
// the mark moves on.
void Peer::look_at_progress() {
  if (streaming_ || sender_->received_end() < shipped_target_) return;
  if (sender_->received_end() >= log_.begin()) {
    streaming_ = true;
    take_last_record();
    return;
  }
  mark_targets();
}

// From here on it is served from memory.
Lsn Peer::live_begin() const {
  const bool all = log_.end() - log_.begin() <= facts_.slow_backlog;
  return all ? log_.begin() : Lsn{log_.end().value - facts_.slow_backlog.value};
}

void Peer::look_for_slowness(Instant now) {
  const Lsn received_end = sender_->received_end();
  const ByteCount backlog = received_end < log_.end() ? log_.end() - received_end : ByteCount{};
  if (!streaming_ || slow_ == (backlog.value > facts_.slow_backlog.value / (slow_ ? 2 : 1))) return;
  slow_ = !slow_;
  if (slow_) catch_up_ = CatchUp(received_end, facts_.valid_end, now);
}

void Peer::on_deadline(Instant now) {
  if (state_ == State::kActive) look_for_slowness(now);
  if (!facts_.running || facts_.superseded || now < retry_at_) return;
  switch (state_) {
    case State::kIdle:
    case State::kRefused:
      begin_handshake(now);
      break;
    case State::kHello:
      say_hello(now);
      break;
    case State::kComparing:
      if (const auto range = comparison_.wanted()) send_later(protocol::DigestRequest{*range});
      retry_at_ = now + kRetry;
      break;
    case State::kCutting:
      send_cut(now);
      break;
    case State::kAdopting:
      send_adoption(now);
      break;
    case State::kActive:
      if (policy_version_ != facts_.policy_version) on_policy_changed(now);
      retry_at_ = now + kRetry;
      break;
  }
}

Instant Peer::deadline() const {
  if (!facts_.running || facts_.superseded) return kNever;
  return sender_ ? std::min({retry_at_, sender_->deadline(), sender_->held_until(), path_.deadline()}) : retry_at_;
}

bool Peer::next_frame(std::size_t frame_bytes_max, OutFrame& out, Instant now) {
  out.payload = {};
  if (facts_.superseded) return false;
  if (!control_.empty()) {
    out.head_bytes = protocol::encode(header(now), control_.front(), out.head);
    control_.pop_front();
    return true;
  }
  if (state_ != State::kActive) return false;
  sender_->on_news(facts_.flushed_end, facts_.confirmed_end, news_hold(), now);
  offer_batches();
  path_.on_port(frame_bytes_max);
  if (next_path_probe(out, now) || next_data(path_.frame_bytes(), out, now)) return true;
  if (!sender_->probe_due(now)) return false;
  out.head_bytes = protocol::encode(header(now), protocol::Probe{sender_->probe_end(now), true}, out.head);
  sender_->on_probe_sent(now);
  return true;
}

// What went ahead is confirmed a little later: that goes along with the next data, unless a standby is waited for.
Duration Peer::news_hold() const {
  const bool awaited = facts_.apply_awaited_end > ends_[ack::Level::kApplied];
  return facts_.goes_ahead && !awaited ? kNewsHold : Duration{};
}

void Peer::offer_batches() {
  while (sender_->wants_batch()) {
    const Lsn at = sender_->offered_end();
    if (const auto batch = at < live_begin() ? std::nullopt : log_.batch_from(at)) {
      sender_->offer(*batch);
      look_for_last_record(batch->range, log_.memory(batch->range));
      read_cursor_ = batch->range.end;
      continue;
    }
    const auto ready = slots_.ready(at);
    if (!ready) return;
    sender_->offer(*ready);
    look_for_last_record(ready->range, slots_.bytes_of(ready->range));
  }
}

bool Peer::next_path_probe(OutFrame& out, Instant now) {
  const auto probe = path_.next_probe(sender_->round_trip().probe_timeout(), now);
  if (!probe) return false;
  out.head_bytes = protocol::encode_path_probe_head(header(now), *probe, out.head);
  out.payload = std::span(kPadding).first(probe->frame_bytes - out.head_bytes);
  return true;
}

bool Peer::next_data(std::size_t frame_bytes, OutFrame& out, Instant now) {
  const auto piece = sender_->peek_piece(frame_bytes - protocol::kDataHeaderBytes, now);
  if (!piece) return false;
  const auto bytes = log_.holds(piece->range) ? log_.memory(piece->range) : slots_.bytes_of(piece->range);
  if (bytes.empty()) {  // Displaced from memory meanwhile: read its batch again.
    slots_.want_repair(piece->batch.range, sender_->offered_end());
    return false;
  }
  out.head_bytes = protocol::encode_data_head(header(now, piece->range.begin), piece->batch, bytes.size(), out.head);
  out.payload = bytes;
  sender_->pop_piece(*piece, now);
  return true;
}

bool Peer::wants_catch_up() const {
  return state_ == State::kActive && read_cursor_ < live_begin() && slots_.has_room_for_catch_up() &&
         read_cursor_ < sender_->offered_end() + slots_.size();
}

std::optional<ReadOp> Peer::next_read(Pace& pace) {
  if (state_ == State::kComparing && slots_.has_free()) {
    if (const auto block = comparison_.next_block()) slots_.want(*block, true);
  }
  // Catch-up: up to the position from which memory has everything, cut at 128 KiB.
  if (wants_catch_up() && pace.allows()) {
    const Lsn end =
        std::min(live_begin(), Lsn{align_down(read_cursor_, ReadSlots::kSlotBytes).value + ReadSlots::kSlotBytes});
    slots_.want({read_cursor_, end}, false);
    pace.spend(end - read_cursor_);
    read_cursor_ = end;
  }
  return slots_.next_read();
}

void Peer::on_read(std::size_t slot, DiskStatus status, Instant now) {
  const auto read = slots_.on_read(slot, status);
  if (!read) return;
  if (read->for_comparison) return go_on_comparing(comparison_.on_block(read->bytes), read->range, now);
  if (!read->bytes.empty()) return slots_.release_below(sender_->received_end());
  if (read->range.end <= sender_->received_end()) return;
  refuse(RefuseReason::kWalGone,
         fmt::format("the WAL you need is gone: {} is no longer in the primary's pg_wal. Make {} anew with "
                     "init-standby, or restore the segments there (primary.restore_command does)",
                     to_string(read->range), member_.name),
         now);
}

StandbyFeedback Peer::feedback(Instant now) const {
  return now - last_heard_ <= kFeedbackKept ? feedback_ : StandbyFeedback{};
}

ack::ReplicaAcks Peer::acks(Instant now) const {
  const auto is_member = [&](const protocol::PolicyMember& each) {
    return each.id == member_.id && each.log_id == log_id_;
  };
  ack::ReplicaAcks out{member_.id, ends_, false, false};
  out.counts = streaming() && policy_version_ == facts_.policy_version &&
               std::ranges::any_of(facts_.members, is_member) && (standby_ready_ || log_only_);
  out.candidate = out.counts && now - last_heard_ <= facts_.candidate_timeout;
  return out;
}

}  // namespace slipstream::node
