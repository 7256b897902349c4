#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/digest.h"
#include "node/confirmer.h"
#include "wal/wal_writer.h"

// The confirmer where WAL went ahead of PostgreSQL's stream.
namespace slipstream::node {
namespace {

constexpr Lsn kBegin{3u << 20};
constexpr ByteCount kSegment{1u << 20};
constexpr SystemId kServer{9};
constexpr std::size_t kRing = 4u << 20;
constexpr std::uint32_t kFirst = 10, kWritten = kFirst + Confirmer::kReadsMax;
constexpr Instant kNow{1'000'000'000};

class ConfirmerAhead : public testing::Test {
 protected:
  void begin() {
    confirmer.restart(kBegin);
    confirmer.take_written(wal::SegmentLayout(kSegment), {kServer, TimelineId{1}});
    first_end = wal.record(100);
    stream(first_end);
    finish(*confirmer.next_read(kNow));
    ASSERT_TRUE(confirmer.next_confirmed());
    confirmer.allow_written(true);
  }
  void stream(Lsn end) {
    const LsnRange range{confirmer.stream_end(), end};
    confirmer.on_chunk({range, xxh3_64(wal.at(range))}, kNow);
  }
  void read_file(const ReadOp& read) {
    std::ranges::fill(read.into, std::byte{0});
    const Lsn end = std::clamp(wal.end(), read.range.begin, read.range.end);
    std::ranges::copy(wal.at({read.range.begin, end}), read.into.begin());
  }
  void finish(const ReadOp& read) {
    read_file(read);
    confirmer.on_read(read.id, DiskStatus::kOk, kNow);
  }
  // A record that nobody has confirmed yet.
  Lsn go_ahead(std::size_t bytes = 1000) {
    const Lsn end = wal.record(bytes);
    confirmer.on_written();
    for (auto read = confirmer.next_read(kNow); read; read = confirmer.next_read(kNow)) {
      EXPECT_EQ(read->id, kWritten);
      finish(*read);
    }
    EXPECT_EQ(log.end(), end);
    return end;
  }
  void expect_mismatch() {
    EXPECT_FALSE(confirmer.next_confirmed());
    EXPECT_TRUE(confirmer.holding());
    EXPECT_TRUE(confirmer.take_reconnect());
    EXPECT_EQ(confirmer.confirmed_end(), first_end);
    wal.record(100);
    confirmer.on_written();
    EXPECT_FALSE(confirmer.next_read(kNow)) << "nothing more goes ahead";
  }

  std::vector<std::byte> ring = std::vector<std::byte>(kRing);
  ShipLog log{ring};
  Confirmer confirmer{log, kFirst};
  wal::WalWriter wal{kBegin, kSegment, kServer};
  Lsn first_end;
};

TEST_F(ConfirmerAhead, IsComparedWithoutAnotherRead) {
  begin();
  const Lsn end = go_ahead();
  EXPECT_EQ(confirmer.confirmed_end(), first_end);
  const Lsn half{first_end.value + 504};
  stream(half);
  stream(end);
  EXPECT_FALSE(confirmer.next_read(kNow));
  EXPECT_EQ(confirmer.next_confirmed()->range, (LsnRange{first_end, half}));
  EXPECT_EQ(confirmer.confirmed_end(), half);
  EXPECT_EQ(confirmer.next_confirmed()->range, (LsnRange{half, end}));
  EXPECT_FALSE(confirmer.next_confirmed());
  EXPECT_EQ(log.end(), end);
}

TEST_F(ConfirmerAhead, IsNotConfirmedIfTheStreamHasOtherBytes) {
  begin();
  const Lsn end = go_ahead();
  wal.at({first_end, end})[500] ^= std::byte{1};
  stream(end);
  expect_mismatch();
}

TEST_F(ConfirmerAhead, IsReadOnlyWhereTheStreamReachesBeyond) {
  begin();
  const Lsn ahead = go_ahead(), end = wal.record(3000);
  stream(end);
  const auto read = confirmer.next_read(kNow);
  ASSERT_TRUE(read);
  EXPECT_NE(read->id, kWritten);
  EXPECT_EQ(read->range, (LsnRange{ahead, end}));
  EXPECT_FALSE(confirmer.next_read(kNow));
  EXPECT_FALSE(confirmer.next_confirmed());
  finish(*read);
  EXPECT_EQ(confirmer.next_confirmed()->range, (LsnRange{first_end, end}));
  EXPECT_EQ(log.end(), end);
  EXPECT_EQ(log.batch_from(ahead), (protocol::Batch{{ahead, end}, xxh3_64(wal.at({ahead, end}))}));
}

TEST_F(ConfirmerAhead, IsNotConfirmedByAChunkThatReachesBeyondAndDiffersInIt) {
  begin();
  const Lsn ahead = go_ahead(), end = wal.record(3000);
  wal.at({first_end, ahead})[500] ^= std::byte{1};
  stream(end);
  for (int i = 0; i < 3; ++i) {
    const auto read = confirmer.next_read(kNow + seconds(i));
    ASSERT_TRUE(read);
    read_file(*read);
    confirmer.on_read(read->id, DiskStatus::kOk, kNow + seconds(i));
  }
  expect_mismatch();
  EXPECT_EQ(log.end(), ahead);
}

TEST_F(ConfirmerAhead, OneReadAtATimeGoesBehindTheEnd) {
  begin();
  const Lsn end = wal.record(1000);
  confirmer.on_written();
  const auto written = confirmer.next_read(kNow);
  ASSERT_TRUE(written);
  ASSERT_EQ(written->id, kWritten);
  stream(end);
  EXPECT_FALSE(confirmer.next_read(kNow)) << "the written one is under way";
  finish(*written);
  EXPECT_TRUE(confirmer.next_confirmed()) << "it had all of the chunk";
  const Lsn more = wal.record(1000);
  stream(more);
  const auto streamed = confirmer.next_read(kNow);
  ASSERT_TRUE(streamed);
  ASSERT_NE(streamed->id, kWritten);
  confirmer.on_written();
  EXPECT_FALSE(confirmer.next_read(kNow)) << "the stream's is under way";
  finish(*streamed);
  EXPECT_TRUE(confirmer.next_confirmed());
}

TEST_F(ConfirmerAhead, WhatWasBeingReadWhenTheConnectionWasLostIsNotTaken) {
  begin();
  const Lsn end = wal.record(1000);
  confirmer.on_written();
  const auto written = confirmer.next_read(kNow);
  ASSERT_TRUE(written && written->id == kWritten);
  confirmer.stop_written();
  finish(*written);
  EXPECT_EQ(log.end(), first_end);
  confirmer.on_written();
  EXPECT_FALSE(confirmer.next_read(kNow));
  stream(end);  // What was streamed before the end still counts.
  finish(*confirmer.next_read(kNow));
  EXPECT_TRUE(confirmer.next_confirmed());
}

TEST_F(ConfirmerAhead, ReadsNothingIntoMemoryThatAnEarlierConnectionsReadMayFill) {
  begin();
  const Lsn end = wal.record(1000);
  confirmer.on_written();
  const auto written = confirmer.next_read(kNow);
  ASSERT_TRUE(written && written->id == kWritten);
  confirmer.restart(kBegin);
  confirmer.take_written(wal::SegmentLayout(kSegment), {kServer, TimelineId{1}});
  stream(end);
  EXPECT_FALSE(confirmer.next_read(kNow));
  finish(*written);
  EXPECT_EQ(log.end(), kBegin);
  const auto streamed = confirmer.next_read(kNow);
  ASSERT_TRUE(streamed);
  EXPECT_EQ(streamed->range, (LsnRange{kBegin, end}));
}

// Whatever the order of writes, chunks, reads and losses: no two reads fill the same memory, the log is PostgreSQL's
// own, and it is confirmed in the end.
TEST_F(ConfirmerAhead, NeverHasTwoReadsIntoTheSameMemory) {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    wal = wal::WalWriter(kBegin, kSegment, kServer);
    Confirmer both{log, kFirst};
    const auto connect = [&] {
      both.restart(kBegin);
      both.take_written(wal::SegmentLayout(kSegment), {kServer, TimelineId{1}});
      both.allow_written(true);
    };
    connect();
    std::vector<ReadOp> under_way;
    bool went_ahead = false;
    for (int step = 0; step < 3000; ++step) {
      const auto dice = random() % 100;
      if (dice < 20 && wal.end() < kBegin + ByteCount{3u << 20})
        wal.record(random() % 20 == 0 ? random() % 60'000 : random() % 1500), both.on_written();
      if (dice >= 20 && dice < 30 && both.stream_end() < wal.end()) {
        const Lsn at = both.stream_end();
        const Lsn end =
            std::min({wal.end(), at + ByteCount{random() % 10'000 + 1}, align_down(at, 1u << 20) + kSegment});
        both.on_chunk({{at, end}, xxh3_64(wal.at({at, end}))}, kNow);
      }
      if (dice == 99 && random() % 4 == 0) connect();
      if (const auto read = both.next_read(kNow)) {
        const auto* from = read->into.data();
        for (const ReadOp& other : under_way) {
          ASSERT_NE(other.id, read->id);
          ASSERT_TRUE(from + read->into.size() <= other.into.data() || other.into.data() + other.into.size() <= from);
        }
        under_way.push_back(*read);
      }
      if (!under_way.empty() && random() % 2 == 0) {
        std::swap(under_way.back(), under_way[random() % under_way.size()]);
        read_file(under_way.back());
        both.on_read(under_way.back().id, DiskStatus::kOk, kNow);
        under_way.pop_back();
      }
      while (both.next_confirmed()) continue;
      went_ahead |= log.end() > both.stream_end();
      ASSERT_LE(log.end(), wal.end());
      ASSERT_FALSE(both.holding());
    }
    while (!under_way.empty() || both.confirmed_end() < both.stream_end()) {
      if (const auto read = both.next_read(kNow)) under_way.push_back(*read);
      ASSERT_FALSE(under_way.empty()) << "hangs, seed " << seed;
      read_file(under_way.back());
      both.on_read(under_way.back().id, DiskStatus::kOk, kNow);
      under_way.pop_back();
      while (both.next_confirmed()) continue;
    }
    EXPECT_TRUE(went_ahead);
    for (Lsn at = log.begin(); at < log.end(); at = log.batch_from(at)->range.end) {
      const auto batch = *log.batch_from(at);
      ASSERT_EQ(batch.digest, xxh3_64(wal.at(batch.range))) << to_string(batch.range);
    }
  }
}

}  // namespace
}  // namespace slipstream::node
