#include "dataplane/idle.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace slipstream::dataplane {
namespace {

using Action = IdleStrategy::Action;

TEST(IdleStrategy, SleepsLongerTheLongerNothingHappens) {
  IdleStrategy idle(IdleStrategy::Mode::kAdaptive);
  const Instant start = Instant{} + seconds(100);
  EXPECT_EQ(idle.choose(true, start).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + microseconds(1)).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + microseconds(100)).action, Action::kYield);
  const auto soon = idle.choose(false, start + milliseconds(1)), later = idle.choose(false, start + seconds(5));
  EXPECT_EQ(soon.action, Action::kSleep);
  EXPECT_EQ(later.action, Action::kSleep);
  EXPECT_LT(soon.sleep, later.sleep);
  EXPECT_LE(later.sleep, milliseconds(1)) << "the longest sleep bounds the first reaction";
  EXPECT_EQ(idle.choose(true, start + seconds(6)).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + seconds(6) + microseconds(1)).action, Action::kPoll);
}

TEST(IdleStrategy, SpinningNeverSleeps) {
  IdleStrategy idle(IdleStrategy::Mode::kSpin);
  EXPECT_EQ(idle.choose(false, Instant{} + seconds(1000)).action, Action::kPoll);
}

TEST(Waker, CutsASleepShort) {
  Waker waker;
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    waker.notify();
  });
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  other.join();
}

TEST(Waker, RemembersANotificationThatCameBeforeTheSleep) {
  Waker waker;
  waker.notify();
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
}

}  // namespace
}  // namespace slipstream::dataplane
