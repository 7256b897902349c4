#include "dataplane/idle.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace slipstream::dataplane {
namespace {

using Action = IdleStrategy::Action;

TEST(IdleStrategy, SleepsLongerTheLongerNothingHappens) {
  IdleStrategy idle(IdleStrategy::Mode::kPolled);
  const Instant start = Instant{} + seconds(100);
  EXPECT_EQ(idle.choose(true, start).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + microseconds(1)).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + microseconds(50)).action, Action::kYield);
  const auto soon = idle.choose(false, start + milliseconds(1)), later = idle.choose(false, start + seconds(5));
  EXPECT_EQ(soon.action, Action::kSleep);
  EXPECT_EQ(later.action, Action::kSleep);
  EXPECT_LT(soon.sleep, later.sleep);
  EXPECT_LE(later.sleep, milliseconds(1)) << "the longest sleep bounds the first reaction";
  EXPECT_EQ(idle.choose(true, start + seconds(6)).action, Action::kPoll);
  EXPECT_EQ(idle.choose(false, start + seconds(6) + microseconds(1)).action, Action::kPoll);
}

TEST(IdleStrategy, StaysAlertForLongerAfterALongerBusyStretch) {
  const auto alert_after = [](Duration stretch) {
    IdleStrategy idle(IdleStrategy::Mode::kPolled);
    const Instant start = Instant{} + seconds(100);
    for (Instant at = start; at <= start + stretch; at = at + microseconds(100)) idle.choose(true, at);
    Duration after = microseconds(200);
    const Duration shortest = idle.choose(false, start + stretch + after).sleep;
    while (idle.choose(false, start + stretch + after).sleep == shortest) after = after + microseconds(100);
    return after;
  };
  EXPECT_LE(alert_after(microseconds(100)), milliseconds(1)) << "a heartbeat keeps nobody awake";
  EXPECT_GE(alert_after(milliseconds(50)), milliseconds(20));
}

TEST(IdleStrategy, WokenSleepsAlmostAtOnceAndForLong) {
  IdleStrategy idle(IdleStrategy::Mode::kWoken);
  const Instant start = Instant{} + seconds(100);
  EXPECT_EQ(idle.choose(true, start).action, Action::kPoll);
  const auto choice = idle.choose(false, start + microseconds(20));
  EXPECT_EQ(choice.action, Action::kSleep);
  EXPECT_GE(choice.sleep, milliseconds(5));
  EXPECT_LE(choice.sleep, milliseconds(20)) << "a ring that was lost costs no more than this";
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

// A descriptor that tells only when asked to: what came before that is found by asking.
TEST(Waker, DoesNotSleepOnNewsThatASourceKeptToItself) {
  Waker waker;
  const int event = eventfd(0, EFD_NONBLOCK);
  std::vector<bool> asked;
  bool news = true;
  waker.watch(event, [&](bool on) {
    asked.push_back(on);
    return !(on && news);
  });
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  EXPECT_EQ(asked, (std::vector<bool>{false, true, false}));
  news = false;
  const std::uint64_t one = 1;
  ASSERT_EQ(write(event, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  std::uint64_t count = 0;
  EXPECT_LT(read(event, &count, sizeof count), 0);  // The sleep read it empty.
  close(event);
}

TEST(Waker, EndsASleepForWhatItOnlyWatchesAndLeavesItThere) {
  Waker waker;
  const int event = eventfd(1, EFD_NONBLOCK);
  waker.watch_only(event);
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  std::uint64_t count = 0;
  ASSERT_EQ(read(event, &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(count, 1u);
  const Instant taken = monotonic_now();
  waker.sleep(milliseconds(30));
  EXPECT_GE(monotonic_now() - taken, milliseconds(25)) << "once it is taken, a sleep lasts";
  close(event);
}

TEST(Waker, AsksBeforeEachSleepWhichDescriptorItShallWatch) {
  Waker waker;
  const int event = eventfd(1, EFD_NONBLOCK);
  int watched = -1, came = 0;
  waker.watch_only([&] { return watched; }, [&] { ++came; });
  const Instant before = monotonic_now();
  waker.sleep(milliseconds(30));
  EXPECT_GE(monotonic_now() - before, milliseconds(25)) << "none";
  EXPECT_EQ(came, 0);
  watched = event;
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  EXPECT_EQ(came, 1);
  close(event);
}

// inotify lets no read of an eventfd's 8 bytes take anything.
TEST(Waker, IsWokenByWritesToADirectoryUntilTheyAreTaken) {
  std::string directory = "/var/tmp/slipstream-waker-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const int events = inotify_init1(IN_NONBLOCK);
  ASSERT_GE(inotify_add_watch(events, directory.c_str(), IN_MODIFY), 0);
  Waker waker;
  waker.watch_only(events);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::ofstream(directory + "/segment") << "bytes";
  });
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  other.join();
  char taken[4096];
  EXPECT_GT(read(events, taken, sizeof taken), 0);
  const Instant after = monotonic_now();
  waker.sleep(milliseconds(30));
  EXPECT_GE(monotonic_now() - after, milliseconds(25));
  close(events);
  std::filesystem::remove_all(directory);
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
