#include "node/replica_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "wal/wal_writer.h"

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

// A log may begin inside a record whose beginning it lacks, so no checksum covers the rest. Were it written along with
// the records behind it, a power cut could leave those and lose it, and recovery would count it as held.
TEST(ReplicaLog, WritesNothingBehindTheRestOfARecordUntilThatIsDurable) {
  wal::WalWriter writer(Lsn{kBegin.value - 2 * wal::kPageBytes}, kSegment, SystemId{7});
  const Lsn record_end = writer.record(2 * wal::kPageBytes + 1000);
  const Lsn next_end = writer.record(5000);
  std::vector<std::byte> ring(4u << 20);
  std::ranges::copy(writer.at({kBegin, next_end}),
                    ring.begin() + static_cast<std::ptrdiff_t>(kBegin.value % ring.size()));
  wal::Recovered recovered;
  recovered.durable_end = kBegin;
  ReplicaLog log(wal::SegmentLayout(kSegment), ring, recovered, wal::Scanner::Start::kPage, {}, 0);

  for (int session = 0; session < 2; ++session) {
    log.on_received(kBegin + ByteCount{60});  // The first page's header, and a little.
    const auto beginning = log.next_write(Instant{});
    ASSERT_TRUE(beginning);
    log.on_received(session == 0 ? record_end + ByteCount{40} : next_end);  // The next record is not complete at first.
    log.on_written(beginning->id, DiskStatus::kOk, Instant{});
    const auto rest = log.next_write(Instant{});
    ASSERT_TRUE(rest);
    const std::size_t rest_bytes = (record_end - rest->at).value;
    EXPECT_TRUE(
        std::ranges::all_of(rest->bytes.subspan(rest_bytes), [](std::byte each) { return each == std::byte{0}; }));
    EXPECT_FALSE(log.next_write(Instant{}));
    log.on_written(rest->id, DiskStatus::kOk, Instant{});
    EXPECT_EQ(log.durable_end(), kBegin);
    const auto behind = log.next_write(Instant{});
    ASSERT_TRUE(behind);
    log.on_written(behind->id, DiskStatus::kOk, Instant{});
    EXPECT_TRUE(log.settled());
    if (session == 0) log.rewind();
  }
  EXPECT_EQ(log.durable_end(), next_end);
}

// What a log of pages to `writer`'s end does with each write, until nothing is left: no write goes across `barrier`,
// and what is behind it waits.
void expect_nothing_behind_until_durable(wal::WalWriter& writer, Lsn barrier) {
  std::vector<std::byte> ring(8u << 20);
  std::ranges::copy(writer.at({writer.begin(), writer.end()}),
                    ring.begin() + static_cast<std::ptrdiff_t>(writer.begin().value % ring.size()));
  wal::Recovered recovered;
  recovered.durable_end = writer.begin();
  ReplicaLog log(wal::SegmentLayout(kSegment), ring, recovered, wal::Scanner::Start::kPage, {}, 0);
  std::vector<WriteOp> before;
  log.on_received(barrier + ByteCount{2});  // Of the page's header too little to tell.
  for (int i = 0; i < 2; ++i) {
    while (const auto write = log.next_write(Instant{})) before.push_back(*write);
    log.on_received(writer.end());
  }
  for (const WriteOp& write : before) {
    EXPECT_LE(write.at + ByteCount{write.bytes.size()}, barrier);
    log.on_written(write.id, DiskStatus::kOk, Instant{});
  }
  EXPECT_EQ(log.synced_end(), barrier);
  EXPECT_LT(log.durable_end(), barrier);
  while (const auto write = log.next_write(Instant{})) log.on_written(write->id, DiskStatus::kOk, Instant{});
  EXPECT_EQ(log.durable_end(), writer.end());
}

TEST(ReplicaLog, WritesNothingBehindARecordThatWasNeverFinishedUntilThatIsDurable) {
  wal::WalWriter writer(kBegin, kSegment, SystemId{7});
  const Lsn last_end = writer.record(1000);
  const Lsn last_begin = writer.previous();
  writer.record(5 * wal::kPageBytes);
  const Lsn given_up{align_down(last_end, wal::kPageBytes).value + 3 * wal::kPageBytes};
  writer.cut(given_up, last_begin);
  writer.abandon_record();
  writer.record(500);
  expect_nothing_behind_until_durable(writer, given_up);
}

TEST(ReplicaLog, WritesNothingOfTheNextSegmentUntilTheRestBehindASwitchIsDurable) {
  wal::WalWriter writer(kBegin, kSegment, SystemId{7});
  writer.record(1000);
  writer.switch_segment();
  const Lsn segment_end = writer.end();
  writer.record(500);
  expect_nothing_behind_until_durable(writer, segment_end);
}

}  // namespace
}  // namespace slipstream::node
