#include "ack/samples.h"

#include <algorithm>

#include "base/check.h"

namespace slipstream::ack {

SampleRing::SampleRing(std::size_t capacity, std::size_t replicas)
    : samples_(capacity), cursors_(replicas), lags_(replicas) {
  CHECK(capacity > 0 && (capacity & (capacity - 1)) == 0 && replicas <= kReplicasMax);
}

void SampleRing::on_shipped(Lsn end, Instant now) {
  if (size() > 0) {
    const Lsn newest = slot(next_ - 1).end;
    if (end == newest) return;
    if (end < newest) oldest_ = next_;
  }
  if (size() == samples_.size()) ++oldest_;
  JointSample& sample = slot(next_++);
  sample.end = end;
  sample.shipped = now;
  for (auto& replica : sample.acked) replica.fill(kNever);
}

void SampleRing::on_acked(std::size_t replica, Level level, Lsn end, Instant now) {
  CHECK(replica < cursors_.size());
  const auto which = static_cast<std::size_t>(level);
  Serial& cursor = cursors_[replica][which];
  cursor = std::max(cursor, oldest_);
  for (; cursor < next_ && slot(cursor).end <= end; ++cursor) {
    JointSample& sample = slot(cursor);
    sample.acked[replica][which] = now;
    lags_[replica][which].add(now - sample.shipped);
  }
}

const Histogram& SampleRing::lag(std::size_t replica, Level level) const {
  CHECK(replica < lags_.size());
  return lags_[replica][static_cast<std::size_t>(level)];
}

const JointSample& SampleRing::at(std::size_t index) const {
  CHECK(index < size());
  return slot(oldest_ + index);
}

}  // namespace slipstream::ack
