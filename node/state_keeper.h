#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "base/check.h"
#include "node/io.h"
#include "node/state_file.h"

namespace slipstream::node {

// A node's durable state and the question "is my change on disk yet?". One write is under way at a time; changes made
// meanwhile go with the next.
class StateKeeper {
 public:
  using Ticket = std::uint64_t;

  StateKeeper(State state, std::uint32_t operation_id) : state_(std::move(state)), operation_id_(operation_id) {}

  const State& state() const { return state_; }
  // Changes the state; durable(ticket) says when the change has survived.
  template <class Change>
  Ticket change(Change&& change) {
    change(state_);
    return ++wanted_;
  }
  bool durable(Ticket ticket) const { return durable_ >= ticket; }

  std::optional<PersistOp> next(Instant now) {
    if (writing_ != 0 || wanted_ == durable_ || now < retry_at_) return std::nullopt;
    writing_ = wanted_;
    return PersistOp{operation_id_, encode(state_)};
  }
  void on_done(DiskStatus status, Instant now) {
    CHECK(status == DiskStatus::kOk || status == DiskStatus::kNoSpace);
    if (status == DiskStatus::kOk)
      durable_ = writing_;
    else
      retry_at_ = now + kNoSpaceRetry;
    writing_ = 0;
  }

 private:
  static constexpr Duration kNoSpaceRetry = milliseconds(500);

  State state_;
  std::uint32_t operation_id_;
  Ticket wanted_ = 0;
  Ticket writing_ = 0;
  Ticket durable_ = 0;
  Instant retry_at_{};
};

}  // namespace slipstream::node
