#include "protocol/sender.h"

#include <algorithm>
#include <utility>

namespace slipstream::protocol {
namespace {

constexpr std::size_t kBatchesMax = 4096;
constexpr Duration kRepeatHoldLeast = microseconds(500);
constexpr Duration kProbeTimeoutMost = milliseconds(200);
constexpr int kBackoffMost = 8;
constexpr Duration kStallLeast = milliseconds(20);

}  // namespace

Sender::Sender(Lsn begin, Lsn window_end, Duration heartbeat, Instant now, RateLimits limits)
    : batches_(kBatchesMax),
      offered_end_(begin),
      sent_end_(begin),
      received_end_(begin),
      window_end_(window_end),
      echoed_sent_at_(0),
      heartbeat_(heartbeat),
      last_sent_(now),
      last_progress_(now),
      waits_since_(now),
      rate_(limits) {}

bool Sender::wants_batch() const { return offered_end_ < window_end_ && !batches_.full(); }

void Sender::offer(const Batch& batch) {
  CHECK(batch.range.begin == offered_end_ && !batch.range.empty());
  batches_.push(batch);
  offered_end_ = batch.range.end;
}

Verdict Sender::on_ack(const Ack& ack, Instant now) {
  if (ack.received_end > sent_end_ || ack.durable_end > ack.received_end || ack.final_end > ack.durable_end)
    return Verdict::kBadAck;
  const auto now_ns = static_cast<std::uint64_t>(now.ns);
  if (ack.echo_sent_at > now_ns) return Verdict::kBadAck;
  // Overtaken; or less has come to whoever has heard a newer frame, so that it is not who acknowledged.
  if (ack.received_end < received_end_)
    return ack.echo_sent_at > echoed_sent_at_ ? Verdict::kOtherSession : Verdict::kDuplicate;
  if (ack.echo_sent_at < echoed_sent_at_) return Verdict::kDuplicate;
  unsampled_ = unsampled_ + (ack.received_end - received_end_);
  if (ack.echo_sent_at > echoed_sent_at_) {
    const std::uint64_t elapsed = now_ns - ack.echo_sent_at;
    if (ack.echo_delay <= elapsed) take_sample({static_cast<std::int64_t>(elapsed - ack.echo_delay)}, ack, now);
    echoed_sent_at_ = ack.echo_sent_at;
    backoff_ = 0;
  }
  window_end_ = std::max(window_end_, ack.window_end);
  heard_flushed_end_ = std::max(heard_flushed_end_, ack.echo_flushed_end);
  heard_confirmed_end_ = std::max(heard_confirmed_end_, ack.echo_confirmed_end);
  if (ack.received_end > received_end_) {
    received_end_ = ack.received_end;
    last_progress_ = waits_since_ = now;
    repairs_.erase_below(received_end_);
    batches_.forget_below(received_end_);
  }
  request_repairs(ack, now);
  return Verdict::kAccepted;
}

void Sender::take_sample(Duration round_trip, const Ack& ack, Instant now) {
  round_trip_.on_sample(round_trip, {static_cast<std::int64_t>(ack.echo_delay)});
  rate_.on_ack(std::exchange(unsampled_, {}), under_way(), round_trip, now);
}

void Sender::request_repairs(const Ack& ack, Instant now) {
  if (ack.missing_count == 0) return;
  const Duration hold = round_trip_.smoothed();
  repeated_.hold_for(std::max(Duration{hold.ns + hold.ns / 8}, kRepeatHoldLeast));
  for (std::size_t i = 0; i < ack.missing_count; ++i) {
    const LsnRange wanted{std::max(ack.missing[i].begin, received_end_), std::min(ack.missing[i].end, sent_end_)};
    if (wanted.empty()) continue;
    repairs_.insert(wanted);
    repeated_.take_from(repairs_, wanted, now);
  }
}

void Sender::on_news(Lsn flushed_end, Lsn confirmed_end, Duration hold, Instant now) {
  if (flushed_end <= flushed_end_ && confirmed_end <= confirmed_end_) return;
  flushed_end_ = std::max(flushed_end_, flushed_end);
  confirmed_end_ = std::max(confirmed_end_, confirmed_end);
  news_due_ = news_carried_ ? now + hold : std::min(news_due_, now + hold);
  news_carried_ = false;
}

// Repairs first.
LsnRange Sender::next_range() const {
  return repairs_.empty() ? LsnRange{sent_end_, std::min(offered_end_, window_end_)} : repairs_.ranges().front();
}

Instant Sender::held_until() const {
  const LsnRange range = next_range();
  return range.begin < range.end && rate_.next() > last_sent_ ? rate_.next() : kNever;
}

std::optional<Sender::Piece> Sender::peek_piece(std::size_t payload_bytes_max, Instant now) const {
  CHECK(payload_bytes_max > 0);
  const bool repair = !repairs_.empty();
  const LsnRange range = next_range();
  // What is sent again takes the place of what was lost.
  if (range.empty() || !rate_.allows(repair ? ByteCount{} : under_way(), now)) return std::nullopt;
  const Batch& batch = batches_.holding(range.begin);
  const Lsn end = std::min({range.end, batch.range.end, range.begin + ByteCount{payload_bytes_max}});
  return Piece{{range.begin, end}, batch, repair};
}

void Sender::pop_piece(const Piece& piece, Instant now) {
  ++counters_.frames_sent;
  counters_.bytes_sent += piece.range.size().value;
  rate_.on_sent(piece.range.size(), now);
  if (piece.repair) {
    counters_.bytes_resent += piece.range.size().value;
    repairs_.erase(piece.range);
    repeated_.insert(piece.range, now);
  } else {
    CHECK(piece.range.begin == sent_end_);
    if (!tail_unacknowledged()) waits_since_ = now;
    sent_end_ = piece.range.end;
    data_sent_ = now;
  }
  carry_news();
  last_sent_ = now;
}

void Sender::carry_news() {
  news_carried_ = true;
  carried_flushed_end_ = flushed_end_, carried_confirmed_end_ = confirmed_end_;
}

Duration Sender::probe_timeout() const {
  return std::min(Duration{round_trip_.probe_timeout().ns << backoff_}, kProbeTimeoutMost);
}

Instant Sender::deadline() const {
  Instant due = last_sent_ + heartbeat_;
  if (!news_carried_) due = std::min(due, news_due_);
  if (tail_unacknowledged()) due = std::min(due, std::max(last_sent_, last_progress_) + probe_timeout());
  if (news_unheard() || window_shut()) due = std::min(due, last_sent_ + probe_timeout());
  return due;
}

bool Sender::stalls_since(Instant since) const {
  const Duration patience = std::max(kStallLeast, Duration{4 * round_trip_.smoothed().ns});
  const Instant late = std::max(since, waits_since_) + patience;
  return tail_unacknowledged() && echoed_sent_at_ > static_cast<std::uint64_t>(late.ns);
}

bool Sender::probe_due(Instant now) const { return now >= deadline(); }

// Of what was sent just now nobody can say that it is lost.
Lsn Sender::probe_end(Instant now) const { return now - data_sent_ >= kReorderAllowance ? sent_end_ : received_end_; }

void Sender::on_probe_sent(Instant now) {
  ++counters_.probes_sent;
  // The first frame that carries news is no repetition.
  if (news_carried_ && waits_for_answer()) backoff_ = std::min(backoff_ + 1, kBackoffMost);
  carry_news();
  last_sent_ = now;
}

}  // namespace slipstream::protocol
