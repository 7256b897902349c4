#include "protocol/round_trip.h"

#include <gtest/gtest.h>

#include "protocol/recent_ranges.h"

namespace slipstream::protocol {
namespace {

TEST(RoundTrip, StartsWithTenMillisecondsAndTakesTheFirstSampleWhole) {
  RoundTrip trip;
  EXPECT_EQ(trip.probe_timeout(), milliseconds(10));
  trip.on_sample(milliseconds(2));
  EXPECT_EQ(trip.smoothed(), milliseconds(2));
  EXPECT_EQ(trip.probe_timeout(), milliseconds(6));
}

TEST(RoundTrip, SettlesOnASteadyTripAndKeepsTheTimeoutWithinItsBounds) {
  RoundTrip trip;
  for (int i = 0; i < 200; ++i) trip.on_sample(microseconds(50));
  EXPECT_EQ(trip.smoothed(), microseconds(50));
  EXPECT_EQ(trip.probe_timeout(), microseconds(200));
  for (int i = 0; i < 200; ++i) trip.on_sample(seconds(3));
  EXPECT_GT(trip.smoothed(), milliseconds(2900));
  EXPECT_EQ(trip.probe_timeout(), milliseconds(200));
}

TEST(RoundTrip, AllowsForAnswersThatWaitAndForgetsThem) {
  RoundTrip trip;
  for (int i = 0; i < 200; ++i) trip.on_sample(microseconds(50), microseconds(700));
  EXPECT_NEAR(static_cast<double>(trip.probe_timeout().ns), 750e3, 1e3);
  trip.on_sample(microseconds(50), seconds(5));
  EXPECT_NEAR(static_cast<double>(trip.probe_timeout().ns), 1050e3, 1e3);
  for (int i = 0; i < 50; ++i) trip.on_sample(microseconds(50));
  EXPECT_EQ(trip.probe_timeout(), microseconds(200));
}

TEST(RoundTrip, IgnoresATripThatCannotBe) {
  RoundTrip trip;
  trip.on_sample(milliseconds(1));
  trip.on_sample(Duration{-1});
  EXPECT_EQ(trip.smoothed(), milliseconds(1));
}

TEST(RecentRanges, RemembersForTheHoldAndAThirdMoreAtMost) {
  const LsnRange range{Lsn{100}, Lsn{200}};
  for (std::int64_t inserted = 0; inserted < 3000; inserted += 70) {
    RecentRanges recent;
    recent.hold_for(microseconds(3000));
    const Instant start{1'000'000'000};
    const auto known = [&](Instant now) {
      RangeSet set;
      set.insert({Lsn{150}, Lsn{250}});
      recent.take_from(set, {Lsn{150}, Lsn{250}}, now);
      return set.ranges().front().begin == Lsn{200};
    };
    (void)known(start);
    const Instant at = start + microseconds(inserted);
    recent.insert(range, at);
    EXPECT_TRUE(known(at + microseconds(1500)));
    EXPECT_TRUE(known(at + microseconds(2999)));
    EXPECT_FALSE(known(at + microseconds(4001)));
  }
}

}  // namespace
}  // namespace slipstream::protocol
