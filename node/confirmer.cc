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

}  // namespace

void Confirmer::restart(Lsn stream_begin) {
  entries_.clear();
  forgotten_ |= busy_;
  stream_end_ = stream_begin;
  holding_ = false;
  log_.reset(stream_begin);
}

void Confirmer::on_chunk(const UpstreamChunk& chunk, Instant now) {
  CHECK(chunk.range.begin == stream_end_ && !chunk.range.empty() &&
        chunk.range.size().value <= protocol::kBatchBytesMax);
  stream_end_ = chunk.range.end;
  if (!holding_) entries_.push_back({chunk, now});
}

bool Confirmer::given_up() const { return mismatches_ >= kConnectionsMax; }

std::optional<ReadOp> Confirmer::next_read(Instant now) {
  if (forgotten_ != 0 || busy_ == (1u << kReadsMax) - 1) return std::nullopt;
  for (Entry& entry : entries_) {
    if (entry.chunk.range.end.value > log_.end().value + kReadAheadMax) return std::nullopt;
    if (entry.state != Entry::State::kWaiting || entry.not_before > now) continue;
    std::uint32_t index = 0;
    while (busy_ >> index & 1) ++index;
    busy_ |= 1u << index;
    entry.operation = first_operation_ + index;
    entry.state = Entry::State::kReading;
    return ReadOp{entry.operation, entry.chunk.range, log_.reserve(entry.chunk.range), false};
  }
  return std::nullopt;
}

void Confirmer::on_read(std::uint32_t operation, DiskStatus status, Instant now) {
  const std::uint32_t bit = 1u << (operation - first_operation_);
  busy_ &= ~bit;
  if (forgotten_ & bit) {
    forgotten_ &= ~bit;
    return;
  }
  const auto it = std::ranges::find_if(
      entries_, [&](const Entry& e) { return e.state == Entry::State::kReading && e.operation == operation; });
  if (it == entries_.end()) return;
  if (status == DiskStatus::kOk && xxh3_64(log_.memory(it->chunk.range)) == it->chunk.digest) {
    it->state = Entry::State::kEqual;
    return;
  }
  it->state = Entry::State::kWaiting;
  it->not_before = now + kReadAgain;
  if (++it->tries < kTriesMax) return;
  holding_ = true;
  ++mismatches_;
  reconnect_ = !given_up();
  entries_.erase(it, entries_.end());  // What was equal before it still counts.
  forgotten_ |= busy_;
  for (const Entry& entry : entries_)
    if (entry.state == Entry::State::kReading) forgotten_ &= ~(1u << (entry.operation - first_operation_));
}

std::optional<Confirmer::Confirmed> Confirmer::next_confirmed() {
  if (entries_.empty() || entries_.front().state != Entry::State::kEqual) return std::nullopt;
  const Entry entry = entries_.front();
  entries_.pop_front();
  const Confirmed out{{entry.chunk.range, entry.chunk.digest}, entry.heard};
  log_.append(out.batch);
  mismatches_ = 0;
  return out;
}

Instant Confirmer::deadline() const {
  Instant due = kNever;
  for (const Entry& entry : entries_)
    if (entry.state == Entry::State::kWaiting && entry.not_before.ns > 0) due = std::min(due, entry.not_before);
  return due;
}

}  // namespace slipstream::node
