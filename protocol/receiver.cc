#include "protocol/receiver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/digest.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kBatchesMax = 8192;
constexpr std::size_t kGapsMax = 4096;
constexpr Duration kReorderDelayMost = milliseconds(5);
constexpr Duration kRetryLeast = milliseconds(2);
constexpr Duration kRetryMost = milliseconds(200);
constexpr Duration kRetrySeldom = milliseconds(64);
constexpr int kRetryDoublings = 5;
constexpr int kDoubtfulRounds = 4;

// How many bytes of `range` are in `set`.
std::uint64_t overlap(const RangeSet& set, LsnRange range) {
  const auto& ranges = set.ranges();
  auto it = std::lower_bound(ranges.begin(), ranges.end(), range.begin,
                             [](const LsnRange& each, Lsn at) { return each.end <= at; });
  std::uint64_t bytes = 0;
  for (; it != ranges.end() && it->begin < range.end; ++it)
    bytes += (std::min(it->end, range.end) - std::max(it->begin, range.begin)).value;
  return bytes;
}

}  // namespace

Receiver::Receiver(std::span<std::byte> ring, Lsn begin, Lsn released_end, Instant now)
    : ring_(ring),
      received_end_(begin),
      released_end_(released_end),
      sent_end_(begin),
      reorder_delay_(kReorderAllowance),
      newest_at_(now) {
  CHECK((ring.size() & (ring.size() - 1)) == 0 && ring.size() >= 2 * kBatchBoundary && released_end <= begin);
  batches_.reserve(256);
  gaps_.reserve(256);
}

void Receiver::on_released(Lsn released_end) {
  CHECK(released_end <= received_end_);
  released_end_ = std::max(released_end_, released_end);
}

void Receiver::hear(const FrameHeader& header, Instant now) {
  if (header.sent_at > newest_sent_at_) {
    newest_sent_at_ = header.sent_at;
    newest_at_ = now;
  }
  flushed_end_ = std::max(flushed_end_, header.flushed_end);
  confirmed_end_ = std::max(confirmed_end_, header.confirmed_end);
}

Verdict Receiver::duplicate(LsnRange range) {
  counters_.bytes_duplicate += range.size().value;
  ack_wanted_ = true;  // It was sent again because an ack was lost or late.
  return Verdict::kDuplicate;
}

Verdict Receiver::on_data(const FrameHeader& header, const Data& data, Instant now) {
  const LsnRange range{header.position, header.position + ByteCount{data.payload.size()}};
  const LsnRange batch = data.batch.range;
  if (batch.end <= received_end_) {
    hear(header, now);
    return duplicate(range);
  }
  if (batch.begin < received_end_ || range.end > window_end()) return Verdict::kBadRange;
  auto place = std::lower_bound(batches_.begin(), batches_.end(), batch.begin,
                                [](const Incoming& each, Lsn at) { return each.batch.range.end <= at; });
  const bool known = place != batches_.end() && place->batch.range.begin < batch.end;
  if (known && place->batch != data.batch) return Verdict::kBadField;
  // The next batch in order is always welcome, or nothing could go on.
  if (!known && batches_.size() >= kBatchesMax && batch.begin != received_end_) return Verdict::kBadRange;
  hear(header, now);
  const std::uint64_t old_bytes = overlap(arrived_, range);
  if (old_bytes == range.size().value) return duplicate(range);

  if (!known) place = batches_.insert(place, Incoming{data.batch, false});
  std::memcpy(memory(range).data(), data.payload.data(), data.payload.size());
  arrived_.insert(range);
  counters_.bytes_received += range.size().value - old_bytes;
  counters_.bytes_duplicate += old_bytes;
  if (!std::exchange(news_, true)) news_since_ = now;
  raise_sent_end(range.begin, now, reorder_delay_);
  if (range.begin < sent_end_) close_gaps(range, header.sent_at, now);
  sent_end_ = std::max(sent_end_, range.end);
  return arrived_.contains(batch) ? finish_batch(place, now) : Verdict::kAccepted;
}

// Every byte of the batch is here: it counts if its digest is right, otherwise none of it was received.
Verdict Receiver::finish_batch(Place place, Instant now) {
  if (xxh3_64(memory(place->batch.range)) != place->batch.digest) {
    drop_batch(place, now);
    return Verdict::kChecksum;
  }
  place->verified = true;
  auto end = batches_.begin();
  for (; end != batches_.end() && end->verified && end->batch.range.begin == received_end_; ++end)
    received_end_ = end->batch.range.end;
  if (end == batches_.begin()) return Verdict::kAccepted;
  batches_.erase(batches_.begin(), end);
  arrived_.erase_below(received_end_);
  forget_gaps_below(received_end_);
  return Verdict::kAccepted;
}

void Receiver::drop_batch(Place place, Instant now) {
  const LsnRange range = place->batch.range;
  ++counters_.batches_dropped;
  arrived_.erase(range);
  batches_.erase(place);
  close_gaps(range, newest_sent_at_ + 1, now);  // Where gaps were widened one may lie across.
  const auto at = std::lower_bound(gaps_.begin(), gaps_.end(), range.begin,
                                   [](const Gap& gap, Lsn lsn) { return gap.range.begin < lsn; });
  gaps_.insert(at, Gap{range, now, newest_sent_at_, now, 0});
  find_gap_due();
}

void Receiver::on_probe(const FrameHeader& header, const Probe& probe, Instant now) {
  hear(header, now);
  // Of that long ago: what is missing had its time.
  raise_sent_end(std::min(probe.sent_end, window_end()), now, reorder_delay_ - kReorderAllowance);
  ack_wanted_ = ack_wanted_ || probe.wants_ack;
}

void Receiver::raise_sent_end(Lsn end, Instant now, Duration patience) {
  if (end <= sent_end_) return;
  // With very many gaps the last one is widened: some bytes come twice, none is forgotten.
  if (gaps_.size() < kGapsMax)
    gaps_.push_back({{sent_end_, end}, now, newest_sent_at_, now + patience, 0});
  else
    gaps_.back().range.end = end;
  sent_end_ = end;
  find_gap_due();
}

void Receiver::close_gaps(LsnRange range, std::uint64_t sent_at, Instant now) {
  auto it = std::lower_bound(gaps_.begin(), gaps_.end(), range.begin,
                             [](const Gap& gap, Lsn at) { return gap.range.end <= at; });
  if (it == gaps_.end() || it->range.begin >= range.end) return;
  while (it != gaps_.end() && it->range.begin < range.end) {
    learn(*it, sent_at, now);
    const bool left = it->range.begin < range.begin, right = range.end < it->range.end;
    // Repairs come in order: what follows this one is on its way.
    const Instant right_due = it->tries > 0 ? std::max(it->due, now + kRetryLeast) : it->due;
    if (left && right) {
      if (gaps_.size() >= 2 * kGapsMax) break;  // Comes twice.
      Gap rest = *it;
      rest.range.begin = range.end;
      rest.due = right_due;
      rest.asked.reset();
      it->range.end = range.begin;
      gaps_.insert(it + 1, rest);
      break;
    }
    if (right) {
      it->range.begin = range.end;
      it->due = right_due;
      it->asked.reset();
      break;
    }
    if (left)
      (it++)->range.end = range.begin;
    else
      it = gaps_.erase(it);
  }
  find_gap_due();
}

void Receiver::forget_gaps_below(Lsn end) {
  if (gaps_.empty() || gaps_.front().range.begin >= end) return;
  const auto first = std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& gap) { return gap.range.end > end; });
  gaps_.erase(gaps_.begin(), first);
  if (!gaps_.empty()) gaps_.front().range.begin = std::max(gaps_.front().range.begin, end);
  find_gap_due();
}

// The network overtakes by as much as frames lately came late: asking sooner would have everything sent twice.
void Receiver::learn(const Gap& gap, std::uint64_t sent_at, Instant now) {
  if (sent_at > gap.newest_sent_at) return learn_repair_time(gap, now);
  const Duration late = now - gap.noticed;
  reorder_delay_ = std::clamp(Duration{late.ns * 3 / 2}, reorder_delay_, kReorderDelayMost);
}

// Karn's rule: what was asked for repeatedly is no sample, since either request may have been answered. But where that
// becomes of all that is asked for, several times in a row, no losses make it so: repairs take longer than was known.
void Receiver::learn_repair_time(const Gap& gap, Instant now) {
  if (!gap.asked) return;
  const Duration took = now - *gap.asked;
  if (!std::exchange(repaired_, true))  // What was asked for with it takes as long.
    for (Gap& each : gaps_)
      if (each.asked) each.due = std::min(each.due, *each.asked + took + reorder_delay_);
  if (gap.tries == 1) {
    answered_round_ = std::max(answered_round_, *gap.asked);
    doubtful_rounds_ = 0;
  } else if (*gap.asked <= answered_round_) {
    return;
  } else if (std::exchange(doubtful_round_, *gap.asked) != *gap.asked) {
    ++doubtful_rounds_;
  }
  if (doubtful_rounds_ == 0 || doubtful_rounds_ >= kDoubtfulRounds) repair_time_.on_sample(std::min(took, kRetryMost));
}

Duration Receiver::retry_after(int tries) const {
  const Duration learnt = repair_time_.is_sampled() ? repair_time_.probe_timeout() + reorder_delay_ : kRetryLeast;
  const Duration first = std::clamp(learnt, kRetryLeast, kRetryMost);
  return std::min(Duration{first.ns << std::min(tries, kRetryDoublings)}, std::max(first, kRetrySeldom));
}

void Receiver::find_gap_due() {
  gap_due_ = kNever;
  for (const Gap& gap : gaps_) gap_due_ = std::min(gap_due_, gap.due);
}

void Receiver::fill_ack(Ack& ack, Instant now) {
  ack.received_end = received_end_;
  ack.window_end = window_end();
  ack.echo_sent_at = newest_sent_at_;
  ack.echo_delay = static_cast<std::uint64_t>((now - newest_at_).ns);
  ack.echo_flushed_end = flushed_end_;
  ack.echo_confirmed_end = confirmed_end_;
  ack.missing_count = 0;
  ack_wanted_ = news_ = false;
  if (gap_due_ > now) return;
  for (Gap& gap : gaps_) {
    if (ack.missing_count == kMissingMax) break;
    if (gap.due > now) continue;
    // Nobody knows how long a repair takes before one has come: until then one gap is asked for again, for all.
    if (gap.tries > 0 && !repaired_ && &gap != &gaps_.front()) {
      gap.due = gaps_.front().due;
      continue;
    }
    ack.missing[ack.missing_count++] = gap.range;
    if (gap.tries == 0) {
      reorder_delay_.ns -= (reorder_delay_ - kReorderAllowance).ns / 64;
      gap.asked = now;
    }
    gap.due = now + retry_after(gap.tries++);
    ++counters_.requests_sent;
  }
  find_gap_due();
}

}  // namespace slipstream::protocol
