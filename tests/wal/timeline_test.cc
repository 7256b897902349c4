#include "wal/timeline.h"

#include <gtest/gtest.h>

namespace slipstream::wal {
namespace {

constexpr ByteCount kSegment{1u << 20};

std::vector<TimelineId> candidates(const TimelineHistory& history, std::uint64_t number) {
  return history.file_candidates(Lsn{number << 20}, kSegment);
}

TEST(TimelineHistory, NamesTheFilesThatMayHoldASegmentTheNewestFirst) {
  const auto history = TimelineHistory::parse(TimelineId{5}, "1\t0/180000\tx\n2\t0/280000\tx\n4\t0/2C0000\tx\n");
  ASSERT_TRUE(history.has_value());
  using Timelines = std::vector<TimelineId>;
  EXPECT_EQ(candidates(*history, 0), (Timelines{TimelineId{1}}));
  EXPECT_EQ(candidates(*history, 1), (Timelines{TimelineId{2}, TimelineId{1}}));
  EXPECT_EQ(candidates(*history, 2), (Timelines{TimelineId{5}, TimelineId{4}, TimelineId{2}}));
  EXPECT_EQ(candidates(*history, 3), (Timelines{TimelineId{5}}));
  EXPECT_EQ(candidates(TimelineHistory(TimelineId{1}), 3), (Timelines{TimelineId{1}}));
}

TEST(TimelineHistory, AForkAtASegmentsBeginLeavesItToTheNewTimelineAlone) {
  const auto history = TimelineHistory::parse(TimelineId{2}, "1\t0/200000\tx\n");
  ASSERT_TRUE(history.has_value());
  EXPECT_EQ(candidates(*history, 1), std::vector{TimelineId{1}});
  EXPECT_EQ(candidates(*history, 2), std::vector{TimelineId{2}});
}

}  // namespace
}  // namespace slipstream::wal
