#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "node/io.h"
#include "protocol/frame.h"

namespace slipstream::node {

// Puts a timeline's history file together from its frames and has it kept durably.
// Guarantees: (1) has() only once the whole file is on stable storage. (2) Pieces out of order change nothing; they
// come again.
class HistoryKeeper {
 public:
  HistoryKeeper(std::uint32_t operation, TimelineId durable) : operation_(operation), durable_(durable) {}

  bool has(TimelineId timeline) const { return timeline.value <= 1 || durable_ >= timeline; }
  void start_over() { pieces_.clear(); }

  protocol::Verdict on_piece(const protocol::History& history) {
    if (has(history.timeline) || op_ || writing_.value != 0) return protocol::Verdict::kDuplicate;
    if (history.offset == 0) pieces_.clear();
    if (history.offset != pieces_.size()) return protocol::Verdict::kBadRange;
    pieces_ += history.piece;
    if (pieces_.size() == history.total_bytes)
      op_ = KeepHistoryOp{operation_, history.timeline, std::exchange(pieces_, {})};
    return protocol::Verdict::kAccepted;
  }
  std::optional<KeepHistoryOp> next() {
    if (op_) writing_ = op_->timeline;
    return std::exchange(op_, std::nullopt);
  }
  void on_kept(DiskStatus status) {
    CHECK(status == DiskStatus::kOk || status == DiskStatus::kNoSpace);
    if (status == DiskStatus::kOk) durable_ = std::max(durable_, writing_);
    writing_ = {};
  }

 private:
  std::uint32_t operation_;
  TimelineId durable_;
  TimelineId writing_{};  // 0: none.
  std::string pieces_;
  std::optional<KeepHistoryOp> op_;
};

}  // namespace slipstream::node
