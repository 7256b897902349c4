#include "node/catch_up.h"

#include <gtest/gtest.h>

namespace slipstream::node {
namespace {

constexpr Instant kBegin = Instant{} + seconds(100);
constexpr Lsn at(std::uint64_t mebibytes) { return Lsn{mebibytes << 20}; }

TEST(CatchUp, TellsHowLongItTakesAtTheSpeedSoFar) {
  const CatchUp catch_up(at(0), at(1000), kBegin);
  EXPECT_FALSE(catch_up.time_left(at(0), at(1000), kBegin + seconds(1)));
  EXPECT_EQ(catch_up.describe(at(0), at(1000), kBegin + seconds(1)), "1000 MB to go");
  EXPECT_EQ(catch_up.describe(at(250), at(1000), kBegin + seconds(5)), "750 MB to go, 15 s at this speed");
}

TEST(CatchUp, CountsWhatIsWrittenMeanwhile) {
  const CatchUp catch_up(at(0), at(1000), kBegin);
  EXPECT_EQ(catch_up.describe(at(1000), at(1500), kBegin + seconds(10)), "500 MB to go, 10 s at this speed");
  EXPECT_EQ(catch_up.describe(at(1000), at(2100), kBegin + seconds(10)), "1.1 GB to go");  // It falls behind.
}

TEST(CatchUp, EndsAtNothing) {
  const CatchUp catch_up(at(5), at(5), kBegin);
  EXPECT_EQ(catch_up.describe(at(6), at(5), kBegin + seconds(1)), "0 B to go");
}

TEST(SizeText, RoundsAsPeopleRead) {
  EXPECT_EQ(size_text(ByteCount{0}), "0 B");
  EXPECT_EQ(size_text(ByteCount{1023}), "1023 B");
  EXPECT_EQ(size_text(ByteCount{1536}), "1.5 kB");
  EXPECT_EQ(size_text(ByteCount{80 << 10}), "80 kB");
  EXPECT_EQ(size_text(ByteCount{std::uint64_t{3} << 40}), "3.0 TB");
}

}  // namespace
}  // namespace slipstream::node
