#include "node/ship_log.h"

#include <algorithm>

#include "base/digest.h"

namespace slipstream::node {

ShipLog::ShipLog(std::span<std::byte> ring) : ring_(ring) {
  CHECK((ring.size() & (ring.size() - 1)) == 0 && ring.size() >= 4 * protocol::kBatchBoundary);
}

void ShipLog::reset(Lsn at) {
  batches_.clear();
  begin_ = end_ = at;
}

std::span<std::byte> ShipLog::memory(LsnRange range) const {
  return ring_.subspan(range.begin.value & (ring_.size() - 1), range.size().value);
}

std::span<std::byte> ShipLog::reserve(LsnRange range) {
  while (!batches_.empty() && batches_.front().range.begin.value + ring_.size() < range.end.value) {
    begin_ = batches_.front().range.end;
    batches_.pop_front();
  }
  return memory(range);
}

void ShipLog::append(const protocol::Batch& batch) {
  CHECK(batch.range.begin == end_);
  if (batches_.empty()) begin_ = batch.range.begin;
  batches_.push_back(batch);
  end_ = batch.range.end;
}

std::optional<protocol::Batch> ShipLog::batch_from(Lsn at) const {
  if (at < begin_ || at >= end_) return std::nullopt;
  const auto it = std::upper_bound(batches_.begin(), batches_.end(), at,
                                   [](Lsn lsn, const protocol::Batch& b) { return lsn < b.range.end; });
  CHECK(it != batches_.end() && it->range.contains(at));
  if (it->range.begin == at) return *it;
  const LsnRange rest{at, it->range.end};
  return protocol::Batch{rest, xxh3_64(memory(rest))};
}

}  // namespace slipstream::node
