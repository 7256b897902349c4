#include "app/standby_minder.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;

StandbyMinder minder() { return StandbyMinder({"host=/nonexistent port=1 connect_timeout=1", "/run/feed", 5461, 3s}); }

TEST(StandbyMinder, AsksOnlyAfterTheStandbyWasAwayForAWhile) {
  StandbyMinder minded = minder();
  const auto now = std::chrono::steady_clock::now();
  EXPECT_EQ(minded.look(true, now), std::nullopt);
  EXPECT_EQ(minded.look(true, now + 2s), std::nullopt);
  EXPECT_EQ(minded.look(false, now + 4s), std::nullopt);
  EXPECT_EQ(minded.look(true, now + 5s), std::nullopt);
  EXPECT_EQ(minded.look(true, now + 7s), std::nullopt);
  EXPECT_NE(minded.look(true, now + 8s), std::nullopt);  // It cannot be reached.
}

TEST(StandbyMinder, SaysAProblemOnce) {
  StandbyMinder minded = minder();
  auto now = std::chrono::steady_clock::now();
  (void)minded.look(true, now);
  const auto said = minded.look(true, now += 3s);
  ASSERT_NE(said, std::nullopt);
  EXPECT_NE(said->find("cannot be asked where it streams from"), std::string::npos) << *said;
  EXPECT_EQ(minded.look(true, now += 3s), std::nullopt);
  (void)minded.look(false, now);  // It was there meanwhile.
  (void)minded.look(true, now);
  EXPECT_NE(minded.look(true, now += 3s), std::nullopt);
}

TEST(StandbyMinder, EndsNoProcessThatIsNoWalreceiver) {
  const auto ended = end_walreceiver(::getpid());
  ASSERT_FALSE(ended.has_value());
  EXPECT_NE(ended.error().what.find("is no walreceiver"), std::string::npos);
  EXPECT_FALSE(end_walreceiver(0).has_value());
  EXPECT_FALSE(end_walreceiver(-1).has_value());
}

}  // namespace
}  // namespace slipstream::app
