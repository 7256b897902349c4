#include "base/range_set.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

namespace slipstream {
namespace {

constexpr std::size_t kWorld = 64;
using Bitmap = std::bitset<kWorld + 1>;  // The last position is never in the set.

LsnRange range(std::uint64_t begin, std::uint64_t end) { return {Lsn{begin}, Lsn{end}}; }

void compare(const RangeSet& set, const Bitmap& twin) {
  ASSERT_EQ(set.size().value, twin.count());
  ASSERT_EQ(set.empty(), twin.none());
  for (std::uint64_t begin = 0; begin <= kWorld; ++begin) {
    std::uint64_t end = begin;
    while (end < kWorld && twin[end]) ++end;
    ASSERT_EQ(set.contiguous_end(Lsn{begin}), Lsn{end}) << "from " << begin;
    ASSERT_TRUE(set.contains(range(begin, end)));
    ASSERT_FALSE(set.contains(range(begin, end + 1)));
  }
  const LsnRange* before = nullptr;
  for (const LsnRange& each : set.ranges()) {
    ASSERT_LT(each.begin, each.end);
    ASSERT_TRUE(!before || before->end < each.begin) << "sorted, disjoint and not adjacent";
    before = &each;
  }
}

TEST(RangeSet, EqualsABitmapOverRandomLives) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    RangeSet set(2);
    Bitmap twin;
    for (int turn = 0; turn < 60; ++turn) {
      std::uint64_t begin = random() % (kWorld + 1), end = random() % (kWorld + 1);
      if (begin > end) std::swap(begin, end);
      if (random() % 2 == 0) end = std::min(end, begin + random() % 8);
      const auto what = random() % 8;
      if (what < 4) {
        set.insert(range(begin, end));
      } else if (what < 7) {
        set.erase(range(begin, end));
      } else {
        set.erase_below(Lsn{end});
        begin = 0;
      }
      for (std::uint64_t i = begin; i < end; ++i) twin[i] = what < 4;
      ASSERT_NO_FATAL_FAILURE(compare(set, twin)) << "seed " << seed << ", turn " << turn;
    }
  }
}

TEST(RangeSet, JoinsNeighboursAndTakesAnEmptyRangeForNothing) {
  RangeSet set;
  set.insert(range(10, 20));
  set.insert(range(30, 40));
  set.insert(range(25, 25));
  EXPECT_EQ(set.ranges().size(), 2u);
  set.insert(range(20, 30));
  ASSERT_EQ(set.ranges().size(), 1u);
  EXPECT_EQ(set.ranges()[0], range(10, 40));
  set.erase(range(15, 15));
  EXPECT_EQ(set.ranges().size(), 1u);
}

TEST(RangeSet, ErasingTheMiddleLeavesBothSides) {
  RangeSet set;
  set.insert(range(10, 40));
  set.erase(range(20, 30));
  EXPECT_EQ(set.ranges(), (std::vector{range(10, 20), range(30, 40)}));
}

TEST(RangeSet, ReachesTheLastPosition) {
  RangeSet set;
  set.insert({Lsn{5}, Lsn{UINT64_MAX}});
  EXPECT_EQ(set.contiguous_end(Lsn{7}), Lsn{UINT64_MAX});
  set.erase_below(Lsn{UINT64_MAX});
  EXPECT_TRUE(set.empty());
}

}  // namespace
}  // namespace slipstream
