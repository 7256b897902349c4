#include "base/spsc_ring.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

namespace slipstream {
namespace {

TEST(SpscRing, HoldsItsCapacityAndGivesBackInOrder) {
  SpscRing<int> ring(4);
  int out = 0;
  EXPECT_FALSE(ring.pop(out));
  for (int lap = 0; lap < 10; ++lap) {
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.push(lap * 10 + i));
    ASSERT_FALSE(ring.push(99));
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(ring.pop(out));
      ASSERT_EQ(out, lap * 10 + i);
    }
    ASSERT_FALSE(ring.pop(out));
  }
}

TEST(SpscRing, LeavesTheValueUntouchedWhenFull) {
  SpscRing<std::unique_ptr<int>> ring(2);
  ASSERT_TRUE(ring.push(std::make_unique<int>(1)));
  ASSERT_TRUE(ring.push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  ASSERT_FALSE(ring.push(std::move(third)));
  ASSERT_TRUE(third);
  EXPECT_EQ(*third, 3);
}

TEST(SpscRing, CarriesEverythingInOrderFromOneThreadToAnother) {
  constexpr std::uint64_t kItems = 100'000;
  SpscRing<std::string> ring(64);
  std::jthread producer([&] {
    for (std::uint64_t i = 0; i < kItems; ++i) {
      auto item = std::to_string(i);
      while (!ring.push(std::move(item))) std::this_thread::yield();
    }
  });
  std::string item;
  for (std::uint64_t i = 0; i < kItems; ++i) {
    while (!ring.pop(item)) std::this_thread::yield();
    ASSERT_EQ(item, std::to_string(i));
  }
  EXPECT_FALSE(ring.pop(item));
}

TEST(SpscRingDeathTest, ChecksThatItsCapacityIsAPowerOfTwo) {
  EXPECT_DEATH(SpscRing<int>(3), "CHECK");
  EXPECT_DEATH(SpscRing<int>(0), "CHECK");
}

}  // namespace
}  // namespace slipstream
