#include "node/digest_service.h"

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "wal/ledger.h"

namespace slipstream::node {

DigestService::DigestService(std::span<std::byte> memory, std::uint32_t first_operation)
    : memory_(memory), first_operation_(first_operation) {
  CHECK(memory.size() >= wal::kBlockBytes);
}

void DigestService::start(LsnRange range) {
  if (busy() || reading_) return;
  for (Lsn at = range.begin; at < range.end && blocks_.size() < protocol::kDigestsMax;) {
    const Lsn end = std::min(range.end, Lsn{align_down(at, wal::kBlockBytes).value + wal::kBlockBytes});
    blocks_.push_back({{at, end}, {}});
    at = end;
  }
  next_ = 0;
}

void DigestService::stop() {
  blocks_.clear();
  next_ = 0;
  forget_ = reading_;
}

std::optional<ReadOp> DigestService::next_read() {
  if (reading_ || next_ == blocks_.size()) return std::nullopt;
  reading_ = true;
  const LsnRange range = blocks_[next_].range;
  return ReadOp{first_operation_, range, memory_.first(range.size().value), true};
}

void DigestService::on_read(DiskStatus status) {
  reading_ = false;
  if (std::exchange(forget_, false)) return;
  if (status != DiskStatus::kOk)
    return stop();  // The primary asks again, and a person finds the missing file in the log.
  blocks_[next_].digest = xxh3_128(memory_.first(blocks_[next_].range.size().value));
  ++next_;
}

std::optional<protocol::DigestReply> DigestService::next_reply() {
  if (!busy() || next_ < blocks_.size()) return std::nullopt;
  protocol::DigestReply reply{std::move(blocks_)};
  blocks_.clear();
  next_ = 0;
  return reply;
}

}  // namespace slipstream::node
