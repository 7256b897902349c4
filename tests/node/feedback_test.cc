#include <gtest/gtest.h>

#include "tests/node/world.h"

// Hot standby feedback: the oldest of what the standbys need reaches the primary's PostgreSQL.
namespace slipstream::node {
namespace {

constexpr std::uint64_t kEpochOne = std::uint64_t{1} << 32;

struct Standbys : World {
  Standbys() : World("ANY 1 (b1, b2)") {}
  void tell(std::size_t index, StandbyFeedback feedback) { replica(index).standby.events.push_back(feedback); }
  bool told(StandbyFeedback wanted) {
    return until([&] { return upstream.standby_feedback == wanted; }, milliseconds(300));
  }
};

TEST(Feedback, OfTheStandbyThatNeedsTheOldestIsForwarded) {
  Standbys world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  EXPECT_EQ(world.upstream.standby_feedback, StandbyFeedback{});
  world.tell(0, {740, 0});
  EXPECT_TRUE(world.told({740, 0}));
  world.tell(1, {730, 735});
  EXPECT_TRUE(world.told({730, 735}));
  world.tell(1, {750, 735});
  EXPECT_TRUE(world.told({740, 735}));
  world.tell(0, {});
  EXPECT_TRUE(world.told({750, 735}));
  world.tell(1, {});
  EXPECT_TRUE(world.told({}));
}

TEST(Feedback, IsComparedAcrossTheWrapOfTransactionNumbers) {
  Standbys world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.tell(0, {kEpochOne | 5, 0});  // After the wrap.
  world.tell(1, {4'294'967'290, 0});  // Before it.
  EXPECT_TRUE(world.told({4'294'967'290, 0}));
}

TEST(Feedback, OfNumbersThatAreNoTransactionsIsNone) {
  Standbys world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.tell(0, {kEpochOne, 0});
  world.tell(1, {kEpochOne | 900, 0});
  EXPECT_TRUE(world.told({kEpochOne | 900, 0}));
}

TEST(Feedback, EndsWithTheStandbyAndWithTheReplica) {
  Standbys world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.tell(0, {740, 0});
  world.tell(1, {730, 0});
  ASSERT_TRUE(world.told({730, 0}));
  world.replica(1).standby.events.push_back(StandbyLost{});
  EXPECT_TRUE(world.told({740, 0}));
  world.replica(0).stop();
  world.run(seconds(5));
  EXPECT_EQ(world.upstream.standby_feedback, (StandbyFeedback{740, 0})) << "it may be away for a moment";
  world.run(seconds(60));
  EXPECT_EQ(world.upstream.standby_feedback, StandbyFeedback{});
}

TEST(Feedback, IsToldAgainInANewSession) {
  Standbys world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.tell(0, {740, 0});
  ASSERT_TRUE(world.told({740, 0}));
  world.lose_connection();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.view().epoch.incarnation == 2; }));
  EXPECT_TRUE(world.told({740, 0}));
}

}  // namespace
}  // namespace slipstream::node
