#include "ack/samples.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace slipstream::ack {
namespace {

constexpr Instant at_ms(std::int64_t ms) { return Instant{} + milliseconds(1000 + ms); }

TEST(SampleRing, RecordsWhenEachReplicaFirstCoveredEachEnd) {
  SampleRing ring(8, 2);
  ring.on_shipped(Lsn{100}, at_ms(0));
  ring.on_shipped(Lsn{200}, at_ms(1));
  ring.on_acked(0, Level::kDurable, Lsn{150}, at_ms(5));
  ring.on_acked(0, Level::kDurable, Lsn{200}, at_ms(7));
  ring.on_acked(1, Level::kReceived, Lsn{99}, at_ms(8));
  ASSERT_EQ(ring.size(), 2u);
  const auto durable = static_cast<std::size_t>(Level::kDurable);
  EXPECT_EQ(ring.at(0).acked[0][durable], at_ms(5));
  EXPECT_EQ(ring.at(1).acked[0][durable], at_ms(7));
  EXPECT_EQ(ring.at(0).acked[1][static_cast<std::size_t>(Level::kReceived)], kNever);
  EXPECT_EQ(ring.lag(0, Level::kDurable).count(), 2u);
  EXPECT_EQ(ring.lag(0, Level::kDurable).max(), milliseconds(6));
  EXPECT_EQ(ring.lag(0, Level::kApplied).count(), 0u);
  EXPECT_EQ(ring.lag(1, Level::kReceived).count(), 0u);
}

TEST(SampleRing, CountsAnAcknowledgementOnce) {
  SampleRing ring(8, 1);
  ring.on_shipped(Lsn{100}, at_ms(0));
  for (int i = 1; i < 5; ++i) ring.on_acked(0, Level::kDurable, Lsn{100}, at_ms(i));
  EXPECT_EQ(ring.lag(0, Level::kDurable).count(), 1u);
  EXPECT_EQ(ring.at(0).acked[0][static_cast<std::size_t>(Level::kDurable)], at_ms(1));
}

TEST(SampleRing, TakesTheSameEndForNoNewSampleAndALowerOneForAnotherHistory) {
  SampleRing ring(8, 1);
  ring.on_shipped(Lsn{100}, at_ms(0));
  ring.on_shipped(Lsn{100}, at_ms(1));
  EXPECT_EQ(ring.size(), 1u);
  ring.on_shipped(Lsn{200}, at_ms(2));
  ring.on_shipped(Lsn{150}, at_ms(3));
  ASSERT_EQ(ring.size(), 1u);
  ring.on_acked(0, Level::kDurable, Lsn{150}, at_ms(4));
  EXPECT_EQ(ring.lag(0, Level::kDurable).count(), 1u);
  EXPECT_EQ(ring.lag(0, Level::kDurable).max(), milliseconds(1));
}

// Against a twin that searches all it keeps for what an ack covers.
TEST(SampleRing, EqualsItsTwinOverRandomLives) {
  constexpr std::size_t kCapacity = 16, kReplicas = 3;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    SampleRing ring(kCapacity, kReplicas);
    std::deque<JointSample> twin;
    std::uint64_t counted = 0;
    std::uint64_t end = 0;
    for (int turn = 0; turn < 400; ++turn) {
      const Instant now = at_ms(turn);
      if (random() % 2 == 0) {
        end += 1 + random() % 50;
        ring.on_shipped(Lsn{end}, now);
        twin.push_back({Lsn{end}, now, {}});
        for (auto& replica : twin.back().acked) replica.fill(kNever);
        if (twin.size() > kCapacity) twin.pop_front();
      } else {
        const auto replica = random() % kReplicas;
        const auto level = kAllLevels[random() % kLevels];
        const Lsn acked{end - std::min<std::uint64_t>(end, random() % 400)};
        ring.on_acked(replica, level, acked, now);
        for (JointSample& sample : twin) {
          Instant& when = sample.acked[replica][static_cast<std::size_t>(level)];
          if (sample.end > acked || when != kNever) continue;
          when = now;
          ++counted;
        }
      }
      ASSERT_EQ(ring.size(), twin.size());
      for (std::size_t i = 0; i < twin.size(); ++i) {
        ASSERT_EQ(ring.at(i).end, twin[i].end);
        ASSERT_EQ(ring.at(i).acked, twin[i].acked) << "seed " << seed << ", turn " << turn << ", sample " << i;
      }
    }
    std::uint64_t in_lags = 0;
    for (std::size_t replica = 0; replica < kReplicas; ++replica)
      for (const Level level : kAllLevels) in_lags += ring.lag(replica, level).count();
    ASSERT_EQ(in_lags, counted);
  }
}

TEST(SampleRingDeathTest, ChecksItsCapacityAndIndices) {
  EXPECT_DEATH(SampleRing(12, 1), "CHECK");
  EXPECT_DEATH(SampleRing(8, kReplicasMax + 1), "CHECK");
  SampleRing ring(8, 1);
  EXPECT_DEATH((void)ring.at(0), "CHECK");
  EXPECT_DEATH(ring.on_acked(1, Level::kDurable, Lsn{1}, at_ms(0)), "CHECK");
}

}  // namespace
}  // namespace slipstream::ack
