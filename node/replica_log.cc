#include "node/replica_log.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace slipstream::node {
namespace {

constexpr std::uint64_t kWriteBytesMax =
    1u << 20;  // Also the boundary no write crosses: within a segment, contiguous in the ring.
constexpr Duration kNoSpaceRetry = milliseconds(500);

}  // namespace

ReplicaLog::ReplicaLog(wal::SegmentLayout layout, std::span<std::byte> ring, const wal::Recovered& recovered,
                       wal::Scanner::Start start, wal::Scanner::Expect expect, std::uint32_t first_operation)
    : layout_(layout),
      ring_(ring),
      first_operation_(first_operation),
      start_(start),
      scanner_(layout, recovered.durable_end, start, expect),
      ahead_(scanner_),
      received_end_(recovered.durable_end),
      synced_end_(recovered.durable_end),
      durable_end_(recovered.durable_end),
      submitted_end_(recovered.durable_end) {
  keep_last_block();
}

std::size_t ReplicaLog::under_way() const {
  return static_cast<std::size_t>(std::ranges::count_if(writes_, [](const Write& w) { return w.busy && !w.done; }));
}

bool ReplicaLog::touches(Lsn begin, Lsn end) const {
  return std::ranges::any_of(writes_, [&](const Write& w) {
    return w.busy && !w.done && align_down(w.range.begin, kBlock) < end && begin < align_up(w.range.end, kBlock);
  });
}

void ReplicaLog::on_received(Lsn received_end) {
  if (received_end <= received_end_) return;
  look_ahead({received_end_, received_end});
  received_end_ = received_end;
}

void ReplicaLog::look_ahead(LsnRange received) {
  if (start_ != wal::Scanner::Start::kPage) return;
  for (Lsn at = received.begin; at < received.end && ahead_.records() == 0 && !ahead_.skipped_end();) {
    const Lsn end = std::min(received.end, Lsn{align_down(at, kWriteBytesMax).value + kWriteBytesMax});
    ahead_.on_bytes(memory({at, end}));
    at = end;
  }
}

// Whatever is behind bytes that no checksum covers waits for them.
Lsn ReplicaLog::writable_end() const {
  Lsn end = std::min(received_end_, submitted_end_ + ByteCount{kWriteBytesMax});
  const auto rest_end = ahead_.skipped_end();
  if (rest_end && synced_end_ < *rest_end) end = std::min(*rest_end, end);
  for (Lsn page = align_up(submitted_end_, wal::kPageBytes); page < end; page = page + ByteCount{wal::kPageBytes})
    if (synced_end_ < page && unchecked_before(page)) return page;
  return end;
}

bool ReplicaLog::unchecked_before(Lsn page) const {
  constexpr std::size_t kBytes = 4;
  if (received_end_ - page < ByteCount{kBytes}) return true;  // Not known yet.
  return wal::unchecked_before(memory({page, page + ByteCount{kBytes}}).first<kBytes>(), layout_.offset_of(page) == 0);
}

// Much goes straight from the ring, as whole blocks, many writes side by side. Little goes together with the partial
// block at its end, from a copy with zeros behind: one write and one flush of the disk for all that came while the one
// before was under way.
std::optional<WriteOp> ReplicaLog::next_write(Instant now) {
  const Lsn writable = writable_end();
  if (submitted_end_ >= writable || (no_space_ && now < retry_at_)) return std::nullopt;
  if (std::ranges::find(writes_, false, &Write::busy) == writes_.end()) return std::nullopt;
  const Lsn begin = align_down(submitted_end_, kBlock);
  Lsn end = std::min(writable, Lsn{align_down(begin, kWriteBytesMax).value + kWriteBytesMax});
  if (end - begin > ByteCount{kTailBytesMax}) end = align_down(end, kBlock);
  if (touches(begin, end)) return std::nullopt;
  return start({submitted_end_, end}, now);
}

WriteOp ReplicaLog::start(LsnRange range, Instant now) {
  const auto it = std::ranges::find(writes_, false, &Write::busy);
  CHECK(it != writes_.end());
  *it = {true, false, range, now};
  submitted_end_ = range.end;
  const auto operation = first_operation_ + static_cast<std::uint32_t>(it - writes_.begin());
  const Lsn begin = align_down(range.begin, kBlock);
  if (range.end.value % kBlock == 0) return {operation, begin, memory({begin, range.end})};
  const auto filled = memory({begin, range.end});
  const auto whole = std::span(tail_).first((align_up(range.end, kBlock) - begin).value);
  copy_bytes(filled, whole);
  std::memset(whole.data() + filled.size(), 0, whole.size() - filled.size());
  return {operation, begin, whole};
}

void ReplicaLog::on_written(std::uint32_t operation, DiskStatus status, Instant now) {
  Write& write = writes_[operation - first_operation_];
  CHECK(write.busy && !write.done && status != DiskStatus::kFailed && status != DiskStatus::kMissing);
  if (status == DiskStatus::kNoSpace) {
    no_space_ = true;
    retry_at_ = now + kNoSpaceRetry;
    // Everything from here on is written again: positions rise contiguously or not at all.
    submitted_end_ = std::min(submitted_end_, write.range.begin);
    write = {};
    return;
  }
  write.done = true;
  write_time_.ns += ((now - write.begun).ns - write_time_.ns) / 8;
  advance();
}

void ReplicaLog::advance() {
  for (bool moved = true; moved;) {
    moved = false;
    for (Write& write : writes_) {
      if (!write.done || write.range.begin > synced_end_) continue;
      if (write.range.end > synced_end_) {
        scanner_.on_bytes(memory({synced_end_, write.range.end}));
        synced_end_ = write.range.end;
        no_space_ = false;
        moved = true;
      }
      write = {};
    }
  }
  if (scanner_.valid_end() <= durable_end_) return;
  durable_end_ = scanner_.valid_end();
  keep_last_block();
}

void ReplicaLog::keep_last_block() {
  const Lsn begin = align_down(durable_end_, kBlock);
  copy_bytes(memory({begin, durable_end_}), last_block_);
}

void ReplicaLog::rewind() {
  CHECK(settled());
  received_end_ = synced_end_ = submitted_end_ = durable_end_;
  for (Write& write : writes_) write = {};
  const LsnRange begun{align_down(durable_end_, kBlock), durable_end_};
  copy_bytes(std::span(last_block_).first(begun.size().value),
             ring_.subspan(begun.begin.value & (ring_.size() - 1), begun.size().value));
  scanner_.restart(durable_end_, scanner_.records() == 0 ? start_ : scanner_.next_start());
  if (scanner_.records() == 0) ahead_.restart(durable_end_, start_);
}

}  // namespace slipstream::node
