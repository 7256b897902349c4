#include "base/recent_bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

namespace slipstream {
namespace {

// Every word of the log holds its own position.
std::vector<std::byte> log_of(std::uint64_t begin, std::uint64_t end) {
  std::vector<std::byte> out(end - begin);
  for (std::uint64_t at = begin; at < end; at += 8) std::memcpy(out.data() + (at - begin), &at, sizeof at);
  return out;
}

bool holds(const RecentBytes& recent, std::uint64_t begin, std::uint64_t end) {
  std::vector<std::byte> out(end - begin);
  if (!recent.read({begin}, out)) return false;
  EXPECT_EQ(out, log_of(begin, end));
  return true;
}

TEST(RecentBytes, GivesWhatWasAppendedLast) {
  RecentBytes recent(1024);
  EXPECT_FALSE(holds(recent, 8, 16));
  recent.append({4096}, log_of(4096, 4160));
  EXPECT_TRUE(holds(recent, 4096, 4160));
  EXPECT_TRUE(holds(recent, 4152, 4160));
  EXPECT_FALSE(holds(recent, 4152, 4168)) << "beyond the end";
  EXPECT_FALSE(holds(recent, 4088, 4096)) << "before the first";
  recent.append({4160}, log_of(4160, 5120 + 8));
  EXPECT_FALSE(holds(recent, 4096, 4104)) << "overwritten";
  EXPECT_TRUE(holds(recent, 4104, 5128));
}

TEST(RecentBytes, AGapForgetsWhatLiesBefore) {
  RecentBytes recent(1024);
  recent.append({4096}, log_of(4096, 4160));
  recent.append({4168}, log_of(4168, 4176));
  EXPECT_FALSE(holds(recent, 4152, 4160));
  EXPECT_FALSE(holds(recent, 4160, 4168));
  EXPECT_TRUE(holds(recent, 4168, 4176));
}

TEST(RecentBytes, OfMoreThanItHoldsTheLastPartCounts) {
  RecentBytes recent(1024);
  recent.append({0}, log_of(0, 4000));
  EXPECT_FALSE(holds(recent, 4000 - 1032, 4000));
  EXPECT_TRUE(holds(recent, 4000 - 1024, 4000));
}

TEST(RecentBytes, RefusesPositionsBetweenWords) {
  RecentBytes recent(1024);
  recent.append({0}, log_of(0, 512));
  std::array<std::byte, 8> out;
  EXPECT_FALSE(recent.read({4}, out));
  EXPECT_FALSE(recent.read({8}, std::span(out).first(4)));
}

TEST(RecentBytes, AReaderNeverSeesWhatIsBeingOverwritten) {
  RecentBytes recent(4096);
  constexpr std::uint64_t kEnd = 8u << 20;
  std::uint64_t given = 0;
  std::thread writer([&] {
    for (std::uint64_t at = 0; at < kEnd; at += 512) recent.append({at}, log_of(at, at + 512));
  });
  while (recent.end().value < kEnd) {
    const std::uint64_t end = recent.end().value;
    for (const std::uint64_t back : {1024u, 3072u, 4096u})
      if (end >= back) given += holds(recent, end - back, end) ? 1 : 0;
  }
  writer.join();
  EXPECT_TRUE(holds(recent, kEnd - 4096, kEnd));
  RecordProperty("given", static_cast<int>(given));
}

}  // namespace
}  // namespace slipstream
