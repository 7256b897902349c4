#include "node/replica_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace slipstream::node {
namespace {

constexpr ByteCount kSegment{1u << 20};
constexpr Lsn kBegin{3u << 20};
constexpr Lsn kDurable = kBegin + ByteCount{100};

// A record that is not complete may be longer than the ring: what comes takes the place of the block it began in. A new
// session begins at durable_end, inside that block, and writes it again.
TEST(ReplicaLog, WritesTheBlockWithTheDurableEndAsItWasWhenASessionBeginsAnew) {
  std::vector<std::byte> ring(4u << 20, std::byte{'a'});
  wal::Recovered recovered;
  recovered.durable_end = kDurable;
  ReplicaLog log(wal::SegmentLayout(kSegment), ring, recovered, wal::Scanner::Start::kRecord, {}, 0);
  log.on_received(kBegin + ByteCount{10'000});  // No record ends in it.
  while (const auto write = log.next_write(Instant{})) log.on_written(write->id, DiskStatus::kOk, Instant{});
  ASSERT_TRUE(log.settled());
  ASSERT_EQ(log.durable_end(), kDurable);

  std::ranges::fill(ring, std::byte{'b'});
  log.rewind();
  log.on_received(kDurable + ByteCount{50});
  const auto write = log.next_write(Instant{});
  ASSERT_TRUE(write);
  EXPECT_EQ(write->at, kBegin);
  EXPECT_TRUE(std::ranges::all_of(write->bytes.first(100), [](std::byte each) { return each == std::byte{'a'}; }));
  EXPECT_EQ(write->bytes[100], std::byte{'b'});
}

}  // namespace
}  // namespace slipstream::node
