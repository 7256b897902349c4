#include "protocol/path_mtu.h"

#include <gtest/gtest.h>

#include <vector>

namespace slipstream::protocol {
namespace {

constexpr Instant kStart{1'000'000'000};
constexpr Duration kRoundTrip = microseconds(100);

// A path that carries frames up to `carries` bytes.
class PathMtuTest : public testing::Test {
 protected:
  // Plays `duration`; returns the lengths that were probed.
  std::vector<std::size_t> run(Duration duration) {
    std::vector<std::size_t> probed;
    for (const Instant end = now + duration; now < end; now = std::max(now, std::min(end, path.deadline()))) {
      path.on_port(port);
      const auto probe = path.next_probe(milliseconds(1), now);
      if (!probe) {
        if (path.deadline() >= end) now = end;
        continue;
      }
      probed.push_back(probe->frame_bytes);
      now = now + kRoundTrip;
      if (probe->frame_bytes <= carries) path.on_reply({probe->number, probe->frame_bytes}, now);
    }
    return probed;
  }

  std::size_t port = 8972;
  std::size_t carries = 8972;
  Instant now = kStart;
  PathMtu path{kStart};
};

TEST_F(PathMtuTest, BeginsWithWhatAnyPathCarriesAndGoesToThePortsMaximumWithinARoundTrip) {
  path.on_port(port);
  EXPECT_EQ(path.frame_bytes(), kControlBytesMax);
  EXPECT_EQ(run(milliseconds(1)), (std::vector<std::size_t>{8972}));
  EXPECT_EQ(path.frame_bytes(), 8972u);
  EXPECT_EQ(run(seconds(3600)), std::vector<std::size_t>{}) << "there is nothing more to be found";
}

TEST_F(PathMtuTest, FindsWhatEveryPathCarriesWithin16Bytes) {
  for (port = 1408; port <= 65507; port += 4001)
    for (carries = 1408; carries <= port; carries += 97) {
      path = PathMtu(now);
      run(seconds(5));
      EXPECT_LE(path.frame_bytes(), carries);
      EXPECT_GT(path.frame_bytes() + 16, std::min(carries, port)) << "of " << carries << " at a port's " << port;
    }
}

TEST_F(PathMtuTest, FindsTheCommonLengthsExactlyAndSoon) {
  carries = 1472;
  run(milliseconds(70));
  EXPECT_EQ(path.frame_bytes(), 1472u);
  path = PathMtu(now), port = 65507, carries = 8972;
  run(milliseconds(70));
  EXPECT_EQ(path.frame_bytes(), 8972u);
}

TEST_F(PathMtuTest, FallsAtOnceWhenThePathShrinksAndFindsItAnew) {
  run(seconds(1));
  carries = 1472;
  path.on_black_hole(now);
  EXPECT_EQ(path.frame_bytes(), kControlBytesMax);
  run(milliseconds(200));
  EXPECT_EQ(path.frame_bytes(), 1472u);
}

TEST_F(PathMtuTest, AFalseAlarmCostsOneRoundTrip) {
  carries = 1472;
  run(seconds(1));
  path.on_black_hole(now);
  EXPECT_EQ(run(kRoundTrip).front(), 1472u);
  EXPECT_EQ(path.frame_bytes(), 1472u);
}

TEST_F(PathMtuTest, TriesAgainEveryMinuteWhetherThePathHasGrown) {
  carries = 1472;
  run(seconds(5));
  EXPECT_FALSE(path.deadline() == kNever);
  carries = 8972;
  run(seconds(50));
  EXPECT_EQ(path.frame_bytes(), 1472u);
  run(seconds(10));
  EXPECT_EQ(path.frame_bytes(), 8972u);
}

TEST_F(PathMtuTest, TakesALateReplyButNoneFromBeforeABlackHole) {
  path.on_port(port);
  const auto probe = path.next_probe(milliseconds(1), now);
  ASSERT_TRUE(probe);
  carries = 0;
  now = now + milliseconds(20);
  run(seconds(2));
  path.on_reply({probe->number, 8972}, now);
  EXPECT_EQ(path.frame_bytes(), 8972u);
  path.on_black_hole(now);
  path.on_reply({probe->number, 8972}, now);
  EXPECT_EQ(path.frame_bytes(), kControlBytesMax);
}

TEST_F(PathMtuTest, AReplyThatItNeverAskedForChangesNothing) {
  path.on_port(port);
  path.on_reply({1, 8972}, now);
  path.on_reply({0, 8972}, now);
  EXPECT_EQ(path.frame_bytes(), kControlBytesMax);
}

TEST_F(PathMtuTest, APortThatTakesLessLowersItAtOnce) {
  run(seconds(1));
  path.on_port(2000);
  EXPECT_EQ(path.frame_bytes(), 2000u);
  path.on_port(1000);
  EXPECT_EQ(path.frame_bytes(), 1000u);
  path.on_port(8972);
  EXPECT_EQ(path.frame_bytes(), kControlBytesMax);
}

}  // namespace
}  // namespace slipstream::protocol
