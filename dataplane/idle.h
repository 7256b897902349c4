#pragma once

#include <atomic>
#include <cstdint>

#include "base/time.h"

namespace slipstream::dataplane {

// Lets other threads cut a data thread's sleep short. notify() is one atomic exchange unless the thread sleeps.
class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  void notify();            // Any thread.
  void sleep(Duration at_most);  // The data thread: returns early when notified.

 private:
  int event_;
  std::atomic<bool> notified_{false};
  std::atomic<bool> sleeping_{false};
};

// What a data thread does when a turn found nothing to do. Spinning: nothing. Adaptive: goes on polling for a moment, then lets others run, then sleeps for longer and
// longer; any work starts over. DPDK devices cannot wake us, so the longest sleep bounds the first reaction.
class IdleStrategy {
 public:
  enum class Mode : std::uint8_t { kAdaptive, kSpin };
  enum class Action : std::uint8_t { kPoll, kYield, kSleep };
  struct Choice {
    Action action = Action::kPoll;
    Duration sleep{};
  };

  explicit IdleStrategy(Mode mode) : mode_(mode) {}
  Choice choose(bool worked, Instant now);

 private:
  Mode mode_;
  Instant last_work_{};
};

Instant monotonic_now();  // CLOCK_MONOTONIC
int usable_cores();
void prepare_data_thread(int core);  // Pins it to `core` (-1: not), and makes short sleeps short.

// Turns until `stop`: `step(now)` says whether anything happened.
template <class Step>
void run_loop(Step step, IdleStrategy& idle, Waker& waker, const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
    const Instant now = monotonic_now();
    const IdleStrategy::Choice choice = idle.choose(step(now), now);
    if (choice.action == IdleStrategy::Action::kSleep) waker.sleep(choice.sleep);
    else if (choice.action == IdleStrategy::Action::kYield) waker.sleep({0});
  }
}

}  // namespace slipstream::dataplane
