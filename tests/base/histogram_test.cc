#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace slipstream {
namespace {

TEST(Histogram, EmptyHasNoQuantile) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.quantile(0.5), Duration{});
}

TEST(Histogram, IsExactForOneValueAndForTheGreatest) {
  Histogram histogram;
  histogram.add(microseconds(123));
  EXPECT_EQ(histogram.quantile(0), microseconds(123));
  EXPECT_EQ(histogram.quantile(0.5), microseconds(123));
  EXPECT_EQ(histogram.quantile(1), microseconds(123));
  EXPECT_EQ(histogram.max(), microseconds(123));
}

TEST(Histogram, IsNeverBelowTheTrueQuantileAndAtMostASixteenthAbove) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    std::lognormal_distribution<double> durations(12.0, 1.0 + static_cast<double>(seed) / 8);
    Histogram histogram;
    std::vector<std::int64_t> all;
    for (int i = 0; i < 5000; ++i) {
      const auto ns = static_cast<std::int64_t>(std::min(durations(random), 1e12));
      all.push_back(ns);
      histogram.add(Duration{ns});
    }
    std::ranges::sort(all);
    for (const double q : {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank =
          std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(q * static_cast<double>(all.size()))));
      const std::int64_t exact = all[rank - 1];
      const std::int64_t got = histogram.quantile(q).ns;
      ASSERT_GE(got, exact) << "seed " << seed << ", quantile " << q;
      ASSERT_LE(static_cast<double>(got), static_cast<double>(exact) * 17 / 16)
          << "seed " << seed << ", quantile " << q;
    }
    ASSERT_EQ(histogram.count(), all.size());
    ASSERT_EQ(histogram.max().ns, all.back());
  }
}

TEST(Histogram, TakesNegativeForZeroAndCountsWhatIsBeyondItsRange) {
  Histogram histogram;
  histogram.add(Duration{-5});
  EXPECT_EQ(histogram.quantile(1), Duration{});
  histogram.add(seconds(36'000));
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.max(), seconds(36'000));
  EXPECT_GE(histogram.quantile(1), seconds(18 * 60));
  histogram.clear();
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.max(), Duration{});
}

TEST(Histogram, MergedCountsAsIfAllHadBeenAddedToOne) {
  Histogram low, high, all;
  for (std::int64_t i = 1; i <= 1000; ++i) {
    (i % 3 == 0 ? high : low).add(microseconds(i));
    all.add(microseconds(i));
  }
  low.merge(high);
  EXPECT_EQ(low.count(), 1000u);
  EXPECT_EQ(low.max(), microseconds(1000));
  for (const double q : {0.01, 0.5, 0.99}) EXPECT_EQ(low.quantile(q), all.quantile(q));
}

}  // namespace
}  // namespace slipstream
