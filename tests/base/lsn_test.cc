#include "base/lsn.h"

#include <gtest/gtest.h>

#include <random>

namespace slipstream {
namespace {

TEST(Lsn, IsPrintedAsPostgresPrintsIt) {
  EXPECT_EQ(to_string(Lsn{0}), "0/0");
  EXPECT_EQ(to_string(Lsn{0x16b374d848}), "16/B374D848");
  EXPECT_EQ(to_string(Lsn{0x100000001}), "1/1");
  EXPECT_EQ(to_string(Lsn{UINT64_MAX}), "FFFFFFFF/FFFFFFFF");
  EXPECT_EQ(to_string(LsnRange{Lsn{0x1600000000}, Lsn{0x1600000010}}), "[16/0, 16/10)");
}

TEST(Lsn, IsReadInEitherCaseAndWithLeadingZeros) {
  EXPECT_EQ(parse_lsn("16/B374D848"), Lsn{0x16b374d848});
  EXPECT_EQ(parse_lsn("16/b374d848"), Lsn{0x16b374d848});
  EXPECT_EQ(parse_lsn("0/00000001"), Lsn{1});
}

TEST(Lsn, IsNotReadFromAnythingElse) {
  for (const char* text : {"", "/", "1", "1/", "/1", "1/2/3", "1/2 ", " 1/2", "-1/2", "+1/2", "1/-2", "0x1/2", "g/1",
                           "1/g", "100000000/0", "0/100000000"})
    EXPECT_EQ(parse_lsn(text), std::nullopt) << '"' << text << '"';
}

TEST(Lsn, IsReadBackAsItWasPrinted) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10'000; ++i) {
    const Lsn at{random() >> (random() % 64)};
    ASSERT_EQ(parse_lsn(to_string(at)), at) << to_string(at);
  }
}

TEST(Lsn, IsAlignedDownAndUp) {
  EXPECT_EQ(align_down(Lsn{8191}, 8192), Lsn{0});
  EXPECT_EQ(align_down(Lsn{8192}, 8192), Lsn{8192});
  EXPECT_EQ(align_up(Lsn{8191}, 8192), Lsn{8192});
  EXPECT_EQ(align_up(Lsn{8192}, 8192), Lsn{8192});
  EXPECT_EQ(align_up(Lsn{8193}, 8192), Lsn{16384});
}

TEST(Lsn, DifferencesAreTakenBetweenOrderedPositions) {
  EXPECT_EQ(Lsn{12} - Lsn{5}, ByteCount{7});
  EXPECT_EQ(Lsn{5} + ByteCount{7}, Lsn{12});
}

TEST(LsnDeathTest, ADifferenceBackwardsIsOurMistake) { EXPECT_DEATH((void)(Lsn{5} - Lsn{12}), "CHECK"); }

TEST(LsnRange, ContainsItsBeginAndNotItsEnd) {
  const LsnRange range{Lsn{10}, Lsn{12}};
  EXPECT_FALSE(range.contains(Lsn{9}));
  EXPECT_TRUE(range.contains(Lsn{10}));
  EXPECT_TRUE(range.contains(Lsn{11}));
  EXPECT_FALSE(range.contains(Lsn{12}));
  EXPECT_EQ(range.size(), ByteCount{2});
  EXPECT_TRUE((LsnRange{Lsn{10}, Lsn{10}}).empty());
}

}  // namespace
}  // namespace slipstream
