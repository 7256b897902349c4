#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/time.h"

namespace slipstream::sim {

// Virtual time: what is to happen and when. Events of one instant happen in the order in which they were asked for.
class Scheduler {
 public:
  using Action = std::move_only_function<void()>;

  Instant now() const { return now_; }
  void at(Instant when, Action action) {
    events_.push_back({std::max(when, now_), ++asked_, std::move(action)});
    std::ranges::push_heap(events_, later);
  }
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }

  // The next event, unless it lies beyond `limit`; then time is `limit`.
  bool run_next(Instant limit) {
    if (events_.empty() || events_.front().when > limit) {
      now_ = std::max(now_, limit);
      return false;
    }
    std::ranges::pop_heap(events_, later);
    Event event = std::move(events_.back());
    events_.pop_back();
    now_ = event.when;
    ++fired_;
    event.action();
    return true;
  }
  std::uint64_t fired() const { return fired_; }

 private:
  struct Event {
    Instant when;
    std::uint64_t order;
    Action action;
  };
  static bool later(const Event& a, const Event& b) { return std::pair(a.when, a.order) > std::pair(b.when, b.order); }

  Instant now_{1'000'000'000};
  std::uint64_t asked_ = 0;
  std::uint64_t fired_ = 0;
  std::vector<Event> events_;
};

}  // namespace slipstream::sim
