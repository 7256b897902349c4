#include "node/comparison.h"

#include <algorithm>

#include "base/digest.h"

namespace slipstream::node {
namespace {

using protocol::Verdict;

constexpr std::uint64_t kComparedBelowFinal = 16u << 20;  // Bytes below final_end that every handshake compares again.

}  // namespace

void Comparison::start(LsnRange log, Lsn final_end, Lsn known_final_end) {
  const Lsn block = align_down(final_end, wal::kBlockBytes);
  const Lsn floor{block.value > kComparedBelowFinal ? block.value - kComparedBelowFinal : 0};
  compared_end_ = std::max(log.begin, floor);
  end_ = log.end;
  known_final_end_ = known_final_end;
  theirs_.clear();
  index_ = 0;
  reading_ = false;
  different_end_.reset();
}

void Comparison::search() {
  different_end_ = theirs_[index_].range.end;
  theirs_.clear();
}

LsnRange Comparison::window() const {
  if (different_end_)
    return {compared_end_, compared_end_ + ByteCount{((*different_end_ - compared_end_).value + 1) / 2}};
  const Lsn window_end{align_down(compared_end_, wal::kBlockBytes).value + protocol::kDigestsMax * wal::kBlockBytes};
  return {compared_end_, std::min(window_end, end_)};
}

std::optional<LsnRange> Comparison::wanted() const {
  if (done() || !theirs_.empty()) return std::nullopt;
  return window();
}

Verdict Comparison::on_reply(const protocol::DigestReply& reply) {
  if (done() || !theirs_.empty() || reply.digests.front().range.begin != compared_end_) return Verdict::kDuplicate;
  Lsn at = compared_end_;
  for (const auto& each : reply.digests) {
    const Lsn block_end{align_down(at, wal::kBlockBytes).value + wal::kBlockBytes};
    if (each.range.begin != at || each.range.end > std::min(block_end, end_)) return Verdict::kBadRange;
    at = each.range.end;
  }
  if (at != window().end) return Verdict::kBadRange;
  theirs_ = reply.digests;
  index_ = 0;
  return Verdict::kAccepted;
}

std::optional<LsnRange> Comparison::next_block() {
  if (reading_ || theirs_.empty()) return std::nullopt;
  reading_ = true;
  return theirs_[index_].range;
}

Comparison::Outcome Comparison::on_block(std::span<const std::byte> bytes) {
  CHECK(reading_);
  reading_ = false;
  const auto& theirs = theirs_[index_];
  // What was final never changed, and the slot let the primary remove it: the rest is compared still.
  if (bytes.empty() && theirs.range.end > known_final_end_) return Outcome::kGone;
  const bool different = !bytes.empty() && xxh3_128(bytes) != theirs.digest;
  if (different_end_) return halve(theirs.range, different);
  if (different) return Outcome::kDifferent;
  compared_end_ = theirs.range.end;
  if (++index_ == theirs_.size()) theirs_.clear();
  return done() ? Outcome::kDone : Outcome::kGoesOn;
}

Comparison::Outcome Comparison::halve(LsnRange half, bool different) {
  if (different)
    different_end_ = half.end;
  else
    compared_end_ = half.end;
  theirs_.clear();
  if (different && half.size() == ByteCount{1}) return Outcome::kFound;
  // What differed does so no longer: the first reading was wrong.
  if (compared_end_ == *different_end_) different_end_.reset();
  return done() ? Outcome::kDone : Outcome::kGoesOn;
}

}  // namespace slipstream::node
