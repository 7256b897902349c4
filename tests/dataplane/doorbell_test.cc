#include "dataplane/doorbell.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "dataplane/idle.h"

namespace slipstream::dataplane {
namespace {

class Doorbells : public testing::TestWithParam<bool> {
 protected:
  std::string name(const std::string& end) const {
    return (GetParam() ? "slipstream-doorbell-test-" + std::to_string(getpid()) : (directory_ / "link").string()) +
           "." + end;
  }
  static bool is_rung(const Doorbell& bell) {
    pollfd wait{bell.fd(), POLLIN, 0};
    return poll(&wait, 1, 0) == 1;
  }
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("slipstream-doorbell-" + std::to_string(getpid()));
};

INSTANTIATE_TEST_SUITE_P(AbstractAndPath, Doorbells, testing::Bool());

TEST_P(Doorbells, WakeASleeperAtTheOtherEnd) {
  Doorbell ours(name("a"), name("b"), GetParam(), true), theirs(name("b"), name("a"), GetParam(), true);
  Waker waker;
  waker.watch(ours.fd());
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    theirs.ring();
  });
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
  other.join();
  EXPECT_FALSE(is_rung(ours)) << "the sleep that it ended has read it empty";
}

TEST_P(Doorbells, ARingBeforeTheSleepIsNotLost) {
  Doorbell ours(name("a"), name("b"), GetParam(), true), theirs(name("b"), name("a"), GetParam(), true);
  for (int i = 0; i < 1000; ++i) theirs.ring();  // More than the socket's queue takes: none of them waits.
  Waker waker;
  waker.watch(ours.fd());
  const Instant before = monotonic_now();
  waker.sleep(seconds(20));
  EXPECT_LT(monotonic_now() - before, seconds(10));
}

TEST_P(Doorbells, APeerThatComesLaterOrAgainIsRungAfterReconnecting) {
  Doorbell ours(name("a"), name("b"), GetParam(), true);
  ours.ring();
  auto theirs = std::make_unique<Doorbell>(name("b"), name("a"), GetParam(), true);
  ours.ring();
  EXPECT_FALSE(is_rung(*theirs)) << "a peer that was away is not tried at every packet";
  ours.reconnect();
  ours.ring();
  EXPECT_TRUE(is_rung(*theirs));
  theirs.reset();
  ours.ring();
  theirs = std::make_unique<Doorbell>(name("b"), name("a"), GetParam(), true);
  ours.reconnect();
  ours.ring();
  EXPECT_TRUE(is_rung(*theirs));
}

TEST_P(Doorbells, APeerThatWasReplacedUnnoticedIsRungAfterReconnecting) {
  Doorbell ours(name("a"), name("b"), GetParam(), true);
  auto theirs = std::make_unique<Doorbell>(name("b"), name("a"), GetParam(), true);
  ours.ring();
  EXPECT_TRUE(is_rung(*theirs));
  theirs.reset();
  theirs = std::make_unique<Doorbell>(name("b"), name("a"), GetParam(), true);
  ours.reconnect();
  ours.ring();
  EXPECT_TRUE(is_rung(*theirs));
}

TEST_P(Doorbells, AnEndThatNeverSleepsDoesNotListen) {
  Doorbell ours(name("a"), name("b"), GetParam(), true), spinning(name("b"), name("a"), GetParam(), false);
  EXPECT_EQ(spinning.fd(), -1);
  ours.ring();
  spinning.ring();
  EXPECT_TRUE(is_rung(ours));
}

TEST(Doorbell, LeavesNoFileBehindAndTakesOverThatOfAKilledProcess) {
  const auto path = std::filesystem::temp_directory_path() / ("slipstream-doorbell-file-" + std::to_string(getpid()));
  std::ofstream(path).put('x');
  {
    Doorbell bell(path.string(), path.string() + ".peer", false, true);
    EXPECT_GE(bell.fd(), 0);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Doorbell, ANameThatIsTooLongMeansNoBell) {
  const std::string name(200, 'x');
  Doorbell bell(name, name, true, true);
  EXPECT_EQ(bell.fd(), -1);
  bell.ring();
}

}  // namespace
}  // namespace slipstream::dataplane
