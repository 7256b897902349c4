#include "postgres/feed_log.h"

#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <string>

#include "tests/postgres/feed_place.h"

namespace slipstream::postgres {
namespace {

const wal::SegmentLayout kLayout{ByteCount{1u << 20}};

void make_segment(const feed_test::Place& place, TimelineId timeline, std::uint64_t number, char fill) {
  std::ofstream(place / kLayout.file_name(timeline, number), std::ios::binary) << std::string(1u << 20, fill);
}

char read_at(FeedLog& log, Lsn at) {
  std::array<std::byte, 8> out{};
  const auto* history = log.history(TimelineId{2});
  if (!history || log.read(*history, at, out) != FeedRead::kOk) return '?';
  return static_cast<char>(out.front());
}

// What was still missing below the fork when the timeline began is written to the new timeline's file alone.
TEST(FeedLog, ReadsAForksFirstSegmentFromTheNewTimelinesFileAlsoBelowTheFork) {
  const feed_test::Place place;
  std::ofstream(place / "00000002.history") << "1\t0/280000\tinside segment 2\n";
  make_segment(place, TimelineId{1}, 1, 'a');
  make_segment(place, TimelineId{1}, 2, 'a');
  FeedLog log(place.path(), kLayout, kLayout.begin_of(1));
  EXPECT_EQ(read_at(log, Lsn{0x200000}), 'a') << "nothing was written behind the fork yet";
  make_segment(place, TimelineId{2}, 2, 'b');
  EXPECT_EQ(read_at(log, Lsn{0x200000}), 'b');
  EXPECT_EQ(read_at(log, Lsn{0x280000}), 'b');
  EXPECT_EQ(read_at(log, Lsn{0x1fff00}), 'a');
  EXPECT_EQ(read_at(log, Lsn{0x300000}), '?') << "no such segment";
}

}  // namespace
}  // namespace slipstream::postgres
