#include "wal/commit_record.h"

#include <algorithm>

#include "base/bytes.h"

namespace slipstream::wal {
namespace {

constexpr std::uint8_t kRmXact = 1;
constexpr std::uint8_t kOperationMask = 0x70, kCommit = 0x00, kCommitPrepared = 0x30, kHasFlags = 0x80;
constexpr std::uint8_t kDataShort = 255, kDataLong = 254, kOrigin = 253, kTopLevelTransaction = 252;
constexpr std::size_t kTimeBytes = 8;
constexpr std::uint32_t kApplyFeedback = 1u << 29;

}  // namespace

void CommitRecord::begin(std::uint8_t resource, std::uint8_t info) {
  const std::uint8_t operation = info & kOperationMask;
  has_flags_ = resource == kRmXact && (operation == kCommit || operation == kCommitPrepared) && (info & kHasFlags) != 0;
  held_ = 0;
}

void CommitRecord::on_body(std::span<const std::byte> bytes) {
  if (!has_flags_ || held_ == kHeadBytes) return;
  const std::size_t count = std::min(bytes.size(), kHeadBytes - held_);
  std::copy_n(bytes.begin(), count, head_.begin() + static_cast<std::ptrdiff_t>(held_));
  held_ += count;
}

bool CommitRecord::awaits_apply() const {
  if (!has_flags_) return false;
  std::size_t at = 0;
  const auto is_next = [&](std::uint8_t id) { return at < held_ && head_[at] == std::byte{id}; };
  if (is_next(kOrigin)) at += 1 + 2;
  if (is_next(kTopLevelTransaction)) at += 1 + 4;
  if (is_next(kDataShort))
    at += 1 + 1;
  else if (is_next(kDataLong))
    at += 1 + 4;
  else
    return false;
  at += kTimeBytes;
  if (at + sizeof(std::uint32_t) > held_) return false;
  return (ByteReader(std::span(head_).subspan(at)).le<std::uint32_t>() & kApplyFeedback) != 0;
}

}  // namespace slipstream::wal
