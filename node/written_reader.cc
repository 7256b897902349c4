#include "node/written_reader.h"

#include <algorithm>
#include <utility>

#include "base/digest.h"

namespace slipstream::node {
namespace {

constexpr std::uint64_t kWindowLeast = 2 * wal::kPageBytes, kWindowMost = 128 * 1024;

}  // namespace

void WrittenReader::restart(wal::SegmentLayout layout, wal::Scanner::Expect expect, Lsn begin) {
  stop();
  layout_ = layout;
  expect_ = expect;
  scanner_.emplace(layout, begin, wal::Scanner::Start::kPage, expect);
  window_ = kWindowLeast;
}

void WrittenReader::stop() {
  layout_.reset();
  scanner_.reset();
  allowed_ = news_ = chained_ = false;
}

std::optional<LsnRange> WrittenReader::next_range(Lsn confirmed_end) {
  if (!allowed_ || !news_ || reading_ || !scanner_ || !chained_) return std::nullopt;
  // Behind a switch of segments no checksum covers what was read: that is waited for.
  const bool switched = scanner_->next_start() == wal::Scanner::Start::kSwitched;
  if (switched && confirmed_end < layout_->segment_end(Lsn{scanner_->valid_end().value - 1})) return std::nullopt;
  const Lsn at = scanner_->scanned_end();
  const Lsn boundary{align_down(at, protocol::kBatchBoundary).value + protocol::kBatchBoundary};
  const Lsn end = std::min({Lsn{align_down(at, wal::kPageBytes).value + window_}, layout_->segment_end(at), boundary,
                            Lsn{confirmed_end.value + kAheadMax}});
  if (end <= at) return std::nullopt;
  news_ = false;
  reading_ = LsnRange{at, end};
  (void)log_.reserve(*reading_);
  return reading_;
}

void WrittenReader::on_read(DiskStatus status) {
  const LsnRange range = *std::exchange(reading_, std::nullopt);
  if (status != DiskStatus::kOk || !scanner_) return;
  if (scan(range)) {
    news_ = true;  // All of it is WAL: there may be more.
    window_ = std::min(window_ * 2, kWindowMost);
  } else {
    window_ = kWindowLeast;
  }
  append_valid();
  scan_log();
}

// What lies behind the last complete record may be half written: it is looked at again from there.
bool WrittenReader::scan(LsnRange range) {
  scanner_->on_bytes(log_.memory(range));
  if (scanner_->fault() == wal::ScanFault::kNone) return true;
  scanner_->restart(scanner_->valid_end(), scanner_->next_start());
  return false;
}

void WrittenReader::append_valid() {
  const Lsn valid_end = scanner_->valid_end();
  while (log_.end() < valid_end) {
    const Lsn at = log_.end();
    const LsnRange range{at,
                         std::min({valid_end, at + ByteCount{protocol::kBatchBytesMax},
                                   align_down(at, protocol::kBatchBoundary) + ByteCount{protocol::kBatchBoundary}})};
    log_.append({range, xxh3_64(log_.memory(range))});
  }
}

void WrittenReader::on_confirmed() {
  if (!scanner_ && layout_ && log_.end() >= resume_at_) resume();
  if (scanner_) scan_log();
}

void WrittenReader::resume() {
  if (resume_at_ < log_.begin()) resume_at_ = align_up(log_.end(), wal::kPageBytes);
  if (resume_at_ <= log_.end()) scanner_.emplace(*layout_, resume_at_, wal::Scanner::Start::kPage, expect_);
}

// Up to the log's end: what came into it by confirmation, and what lies there of a record that goes on behind it. That
// was flushed, so that a fault is nothing half written; then the scan begins again at the next page that is confirmed.
void WrittenReader::scan_log() {
  bool again = false;
  while (scanner_->scanned_end() < log_.end()) {
    const Lsn at = scanner_->scanned_end();
    const Lsn end =
        std::min(log_.end(), align_down(at, protocol::kBatchBoundary) + ByteCount{protocol::kBatchBoundary});
    const bool held = log_.holds({at, end});
    if (held && scan({at, end})) continue;
    // The first time it may have been what an earlier read had left behind the log's end.
    if (held && !std::exchange(again, true)) continue;
    resume_at_ = align_up(log_.end(), wal::kPageBytes);
    scanner_.reset();
    chained_ = false;
    return;
  }
  chained_ = chained_ || (scanner_->records() > 0 && scanner_->valid_end() <= log_.end());
}

}  // namespace slipstream::node
