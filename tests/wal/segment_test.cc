#include "wal/segment.h"

#include <gtest/gtest.h>

#include "wal/timeline.h"

namespace slipstream::wal {
namespace {

TEST(SegmentLayout, NamesSegmentsAsPostgresqlDoes) {
  const SegmentLayout usual(ByteCount{16u << 20});
  EXPECT_EQ(usual.file_name(TimelineId{1}, usual.number_of(*parse_lsn("16/B374D848"))), "0000000100000016000000B3");
  const SegmentLayout large(ByteCount{1u << 30}), small(ByteCount{1u << 20});
  EXPECT_EQ(large.file_name(TimelineId{3}, large.number_of(*parse_lsn("16/B374D848"))), "000000030000001600000002");
  EXPECT_EQ(small.file_name(TimelineId{1}, small.number_of(*parse_lsn("16/B374D848"))), "000000010000001600000B37");
}

TEST(SegmentLayout, ReadsBackItsOwnNames) {
  for (const std::uint64_t size : {1u << 20, 16u << 20, 1u << 30}) {
    const SegmentLayout layout(ByteCount{size});
    for (const std::uint64_t number : {0ull, 1ull, 255ull, 4095ull, 4096ull, 1234567ull}) {
      const auto parsed = layout.parse(layout.file_name(TimelineId{7}, number));
      ASSERT_TRUE(parsed);
      EXPECT_EQ(parsed->number, number);
      EXPECT_EQ(parsed->timeline, TimelineId{7});
    }
  }
}

TEST(SegmentLayout, RefusesWhatIsNoSegmentsName) {
  const SegmentLayout layout(ByteCount{16u << 20});
  for (const char* name : {"", "00000001000000160000", "000000010000001600000100", "0000000100000016000000b3",
                           "00000002.history", "000000000000001600000001", "0000000100000016000000B3.backup"})
    EXPECT_FALSE(layout.parse(name)) << name;
  EXPECT_TRUE(layout.parse("0000000100000016000000B3.partial")->partial);
}

TEST(SegmentLayout, KnowsWhichSizesThereAre) {
  EXPECT_TRUE(SegmentLayout::valid_size(ByteCount{1u << 20}));
  EXPECT_FALSE(SegmentLayout::valid_size(ByteCount{1u << 19}));
  EXPECT_FALSE(SegmentLayout::valid_size(ByteCount{3u << 20}));
  EXPECT_FALSE(SegmentLayout::valid_size(ByteCount{std::uint64_t{1} << 31}));
}

TEST(TimelineHistory, SaysWhichTimelineOwnsAPosition) {
  const auto history =
      TimelineHistory::parse(TimelineId{3}, "1\t0/3000060\tno recovery target specified\n\n2\t0/5000000\tno reason\n");
  ASSERT_TRUE(history) << history.error().message();
  EXPECT_EQ(history->owner_of(*parse_lsn("0/300005F")), TimelineId{1});
  EXPECT_EQ(history->owner_of(*parse_lsn("0/3000060")), TimelineId{2});
  EXPECT_EQ(history->owner_of(*parse_lsn("0/5000000")), TimelineId{3});
  // A fork's first segment is in the new timeline's file, its ancestor's bytes included.
  EXPECT_EQ(history->file_owner(*parse_lsn("0/3000000"), ByteCount{16u << 20}), TimelineId{2});
}

TEST(TimelineHistory, RefusesDamage) {
  EXPECT_FALSE(TimelineHistory::parse(TimelineId{3}, "0\t0/3000000\tno timeline\n"));
  EXPECT_FALSE(TimelineHistory::parse(TimelineId{2}, "x\t0/3000060\treason\n"));
  EXPECT_FALSE(TimelineHistory::parse(TimelineId{2}, "1\tzero\treason\n"));
  EXPECT_FALSE(TimelineHistory::parse(TimelineId{2}, "2\t0/1\treason\n"));
  EXPECT_FALSE(TimelineHistory::parse(TimelineId{4}, "2\t0/5\tr\n1\t0/6\tr\n"));
}

}  // namespace
}  // namespace slipstream::wal
