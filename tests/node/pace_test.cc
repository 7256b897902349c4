#include "node/pace.h"

#include <gtest/gtest.h>

namespace slipstream::node {
namespace {

constexpr std::uint64_t kMB = 1 << 20;
constexpr ByteCount kPiece{128u << 10};

// A replica that wants all it may have, beside commits that take `took` at that speed.
class CatchingUp {
 public:
  explicit CatchingUp(std::optional<ByteCount> fixed) : pace(fixed) {}

  // Turns every 100 us for so long; returns the bytes a second that were read.
  template <class Took>
  double go(Duration time, Took took, bool wants = true) {
    std::uint64_t bytes = 0;
    const Instant end = now + time;
    for (; now < end; now = now + microseconds(100)) {
      pace.on_turn(log_end, open, now);
      log_end = log_end + ByteCount{growth / 10'000};
      pace.on_commit(took(pace.rate()));
      for (int i = 0; wants && pace.allows() && i < 64; ++i) pace.spend(kPiece), bytes += kPiece.value;
    }
    return static_cast<double>(bytes) / (static_cast<double>(time.ns) / 1e9);
  }
  double go(Duration time, bool wants = true) {
    return go(time, [](double) { return milliseconds(1); }, wants);
  }

  Pace pace;
  Instant now = Instant{} + seconds(1);
  Lsn log_end{1};
  std::uint64_t growth = 0;  // Bytes a second.
  bool open = false;
};

TEST(Pace, KeepsToAFixedRate) {
  CatchingUp run(ByteCount{40 * kMB});
  EXPECT_NEAR(run.go(seconds(3)), 40e0 * kMB, 1e0 * kMB);
}

TEST(Pace, NoRateMeansNoLimit) {
  CatchingUp run(ByteCount{0});
  EXPECT_GT(run.go(milliseconds(100)), 10'000e0 * kMB);
}

TEST(Pace, DoesNotLimitWhileCommitsWait) {
  CatchingUp run(ByteCount{1 * kMB});
  run.open = true;
  EXPECT_GT(run.go(milliseconds(100)), 10'000e0 * kMB);
  run.open = false;
  EXPECT_LT(run.go(seconds(3)), 2e0 * kMB);
}

TEST(Pace, IsTwiceAsFastAsTheLogGrows) {
  CatchingUp run(ByteCount{1 * kMB});
  run.growth = 50 * kMB;
  run.go(seconds(1));
  EXPECT_NEAR(run.go(seconds(3)), 100e0 * kMB, 5e0 * kMB);
}

TEST(Pace, RisesWhileCommitsTakeNoLonger) {
  CatchingUp run(std::nullopt);
  run.go(seconds(1), false);
  EXPECT_LT(run.go(milliseconds(200)), 40e0 * kMB);
  run.go(seconds(10));
  EXPECT_GT(run.go(seconds(1)), 2'000e0 * kMB);
}

TEST(Pace, FindsTheRateThatCommitsStand) {
  CatchingUp run(std::nullopt);
  run.go(seconds(1), false);
  // Beyond 100 MB/s commits take twice as long.
  const auto took = [](double rate) { return rate > 100e0 * kMB ? milliseconds(2) : milliseconds(1); };
  run.go(seconds(10), took);
  const double found = run.go(seconds(10), took);
  EXPECT_GT(found, 70e0 * kMB);
  EXPECT_LT(found, 115e0 * kMB);
}

TEST(Pace, FindsTheRateAtWhichFewCommitsTakeLong) {
  CatchingUp run(std::nullopt);
  std::uint64_t commits = 0;
  // Beyond 100 MB/s a third of the commits takes longer than usual; their mean rises by a tenth only.
  const auto took = [&](double rate) {
    const auto usual = microseconds(1000 + static_cast<std::int64_t>(++commits % 20));
    return rate > 100e0 * kMB && commits % 3 == 0 ? usual + microseconds(300) : usual;
  };
  run.go(seconds(3), took, false);
  run.go(seconds(20), took);
  const double found = run.go(seconds(10), took);
  EXPECT_GT(found, 70e0 * kMB);
  EXPECT_LT(found, 115e0 * kMB);
}

TEST(Pace, GoesOnAtTheLeastRateWhateverItCosts) {
  CatchingUp run(std::nullopt);
  run.go(seconds(1), false);
  const auto took = [](double) { return milliseconds(50); };
  EXPECT_GE(run.go(seconds(5), took), 0.9 * Pace::kLeast);
}

TEST(Pace, SleepsUntilItAllowsAgain) {
  CatchingUp run(ByteCount{10 * kMB});
  run.go(seconds(1));
  while (run.pace.allows()) run.pace.spend(kPiece);
  run.pace.spend(kPiece);
  const Instant next = run.pace.next();
  EXPECT_GT(next, run.now);
  EXPECT_LE(next - run.now, milliseconds(26));
  run.pace.on_turn(run.log_end, false, next + microseconds(1));
  EXPECT_TRUE(run.pace.allows());
}

}  // namespace
}  // namespace slipstream::node
