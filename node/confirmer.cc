#include "node/confirmer.h"

#include <algorithm>

#include "base/digest.h"

namespace slipstream::node {
namespace {

constexpr int kTriesMax = 3;
constexpr int kConnectionsMax = 3;
constexpr Duration kReadAgain = milliseconds(5);
constexpr std::uint64_t kReadAheadMax =
    2u << 20;  // Bytes being read ahead of the ship log's end: they displace as much memory.
constexpr std::uint32_t kStreamReads = (1u << Confirmer::kReadsMax) - 1;

}  // namespace

void Confirmer::restart(Lsn stream_begin) {
  entries_.clear();
  forgotten_ |= busy_;
  written_.stop();
  written_.on_read_lost();
  stream_end_ = confirmed_end_ = stream_begin;
  holding_ = false;
  log_.reset(stream_begin);
}

void Confirmer::take_written(wal::SegmentLayout layout, wal::Scanner::Expect expect) {
  written_.restart(layout, expect, confirmed_end_);
}

void Confirmer::on_chunk(const UpstreamChunk& chunk, Instant now) {
  CHECK(chunk.range.begin == stream_end_ && !chunk.range.empty() &&
        chunk.range.size().value <= protocol::kBatchBytesMax);
  stream_end_ = chunk.range.end;
  if (!holding_) entries_.push_back({chunk, now});
}

bool Confirmer::given_up() const { return mismatches_ >= kConnectionsMax; }

std::optional<ReadOp> Confirmer::start_read(std::uint32_t index, LsnRange range) {
  busy_ |= 1u << index;
  return ReadOp{first_operation_ + index, range, log_.reserve(range), false};
}

// What the stream has beyond the ship log's end is read before anything else is, and not while anything else is read
// into the same memory.
std::optional<ReadOp> Confirmer::next_read(Instant now) {
  if (forgotten_ != 0 || written_.reading()) return std::nullopt;
  for (Entry& entry : entries_) {
    const LsnRange range{std::max(entry.chunk.range.begin, log_.end()), entry.chunk.range.end};
    if (range.begin >= range.end) continue;
    if ((busy_ & kStreamReads) == kStreamReads) return std::nullopt;
    if (range.end.value > log_.end().value + kReadAheadMax) return std::nullopt;
    if (entry.state != Entry::State::kWaiting || entry.not_before > now) continue;
    std::uint32_t index = 0;
    while (busy_ >> index & 1) ++index;
    entry.operation = first_operation_ + index;
    entry.state = Entry::State::kReading;
    return start_read(index, range);
  }
  if (holding_ || stream_end_ > log_.end()) return std::nullopt;
  const auto range = written_.next_range(confirmed_end_);
  return range ? start_read(kReadsMax, *range) : std::nullopt;
}

bool Confirmer::equal(const UpstreamChunk& chunk) const { return xxh3_64(log_.memory(chunk.range)) == chunk.digest; }

void Confirmer::on_read(std::uint32_t operation, DiskStatus status, Instant now) {
  const std::uint32_t bit = 1u << (operation - first_operation_);
  busy_ &= ~bit;
  if (forgotten_ & bit) {
    forgotten_ &= ~bit;
    return;
  }
  if (operation - first_operation_ == kReadsMax) {
    if (written_.reading()) written_.on_read(status);
    return;
  }
  const auto it = std::ranges::find_if(
      entries_, [&](const Entry& e) { return e.state == Entry::State::kReading && e.operation == operation; });
  if (it == entries_.end()) return;
  if (status == DiskStatus::kOk && equal(it->chunk)) {
    it->state = Entry::State::kEqual;
    return;
  }
  it->state = Entry::State::kWaiting;
  it->not_before = now + kReadAgain;
  if (++it->tries >= kTriesMax) hold(it);
}

// Nothing from this entry on counts any more over this connection. What was equal before it still does.
void Confirmer::hold(std::deque<Entry>::iterator from) {
  holding_ = true;
  ++mismatches_;
  reconnect_ = !given_up();
  entries_.erase(from, entries_.end());
  written_.stop();
  written_.on_read_lost();
  forgotten_ |= busy_;
  for (const Entry& entry : entries_)
    if (entry.state == Entry::State::kReading) forgotten_ &= ~(1u << (entry.operation - first_operation_));
}

std::optional<Confirmer::Confirmed> Confirmer::next_confirmed() {
  if (entries_.empty()) return std::nullopt;
  const Entry entry = entries_.front();
  const LsnRange range = entry.chunk.range;
  const bool shipped = range.end <= log_.end();
  if (!shipped && entry.state != Entry::State::kEqual) return std::nullopt;
  // What went ahead is compared now. It is in memory: no more than WrittenReader::kAheadMax goes ahead.
  if (shipped && !(log_.holds(range) && equal(entry.chunk))) {
    hold(entries_.begin());
    return std::nullopt;
  }
  entries_.pop_front();
  if (!shipped) {
    const LsnRange rest{std::max(range.begin, log_.end()), range.end};
    log_.append({rest, rest.begin == range.begin ? entry.chunk.digest : xxh3_64(log_.memory(rest))});
  }
  confirmed_end_ = range.end;
  written_.on_confirmed();
  mismatches_ = 0;
  return Confirmed{range, entry.heard};
}

Instant Confirmer::deadline() const {
  Instant due = kNever;
  for (const Entry& entry : entries_)
    if (entry.state == Entry::State::kWaiting && entry.not_before.ns > 0) due = std::min(due, entry.not_before);
  return due;
}

}  // namespace slipstream::node
