#include "wal/scanner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "wal/recovery.h"
#include "wal/wal_writer.h"

namespace slipstream::wal {
namespace {

constexpr ByteCount kSegment{1u << 20};
constexpr SystemId kSystem{77};

struct Sample {
  wal::WalWriter writer{Lsn{3u << 20}, kSegment, kSystem};
  std::vector<Lsn> ends;
};

// Records of all sizes, some over many pages, across a segment's end.
Sample sample(std::uint32_t seed, int records = 400) {
  Sample out;
  std::mt19937 random(seed);
  for (int i = 0; i < records; ++i) {
    const std::size_t bytes = random() % 10 == 0 ? random() % 30000 : random() % 300;
    out.ends.push_back(out.writer.record(bytes, static_cast<std::uint8_t>(random() % 255 + 1)));
  }
  return out;
}

std::span<const std::byte> all(Sample& s) { return s.writer.at({s.writer.begin(), s.writer.end()}); }

Scanner scanner_at(Lsn begin, Scanner::Start start = Scanner::Start::kPage) {
  return Scanner(SegmentLayout(kSegment), begin, start, {kSystem, TimelineId{1}});
}

TEST(Scanner, FindsEveryRecordsEnd) {
  Sample s = sample(1);
  Scanner scanner = scanner_at(s.writer.begin());
  std::size_t at = 0;
  std::vector<Lsn> found;
  for (const std::byte& byte : all(s)) {
    const Lsn before = scanner.valid_end();
    scanner.on_bytes({&byte, 1});
    if (scanner.valid_end() != before) found.push_back(scanner.valid_end());
    ++at;
  }
  EXPECT_EQ(found, s.ends);
  EXPECT_EQ(scanner.records(), s.ends.size());
  EXPECT_EQ(scanner.fault(), ScanFault::kNone);
}

TEST(Scanner, DoesNotDependOnHowTheBytesAreCut) {
  Sample s = sample(2);
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    Scanner scanner = scanner_at(s.writer.begin());
    auto left = all(s);
    while (!left.empty()) {
      const std::size_t count = std::min<std::size_t>(left.size(), 1 + random() % 9000);
      scanner.on_bytes(left.first(count));
      left = left.subspan(count);
    }
    ASSERT_EQ(scanner.valid_end(), s.ends.back());
    ASSERT_EQ(scanner.records(), s.ends.size());
  }
}

TEST(Scanner, CountsAPrefixOnlyUpToItsLastCompleteRecord) {
  Sample s = sample(3, 60);
  const auto bytes = all(s);
  for (std::size_t length = 0; length <= bytes.size(); length += 7) {
    Scanner scanner = scanner_at(s.writer.begin());
    scanner.on_bytes(bytes.first(length));
    Lsn expected = s.writer.begin();
    for (const Lsn end : s.ends)
      if (end.value <= s.writer.begin().value + length) expected = end;
    ASSERT_EQ(scanner.valid_end(), expected) << length;
  }
}

TEST(Scanner, AFlippedBitNeverLetsTheRecordThatHasItCount) {
  Sample s = sample(4, 80);
  const auto whole = all(s);
  std::mt19937 random(9);
  int stopped = 0;
  for (int round = 0; round < 600; ++round) {
    std::vector<std::byte> bytes(whole.begin(), whole.end());
    const std::size_t at = random() % bytes.size();
    bytes[at] ^= static_cast<std::byte>(1u << (random() % 8));
    Scanner scanner = scanner_at(s.writer.begin());
    scanner.on_bytes(bytes);
    // Padding between records and the unused fields of a page header are covered by no checksum.
    const Lsn flip = s.writer.begin() + ByteCount{at};
    const bool padding = scanner.valid_end() == s.ends.back();
    if (!padding) {
      ASSERT_LE(scanner.valid_end(), flip + ByteCount{8}) << to_string(flip);
      ++stopped;
    }
  }
  EXPECT_GT(stopped, 500);
}

// PostgreSQL crashed within a record, and goes on without it on the page behind what it had flushed.
TEST(Scanner, GoesOnBehindARecordThatWasNeverFinished) {
  for (std::size_t room = 8; room <= 64; room += 8) {  // Before the page's end: the header is split, or whole.
    for (std::uint64_t pages = 1; pages <= 3; ++pages) {
      wal::WalWriter writer(Lsn{3u << 20}, kSegment, kSystem);
      const Lsn page_end = writer.begin() + ByteCount{kPageBytes};
      writer.record(kPageBytes - 40 - room - 24);
      ASSERT_EQ(page_end - writer.end(), ByteCount{room});
      const Lsn before = writer.end(), previous = writer.previous();
      writer.record(40'000);
      writer.cut(page_end + ByteCount{(pages - 1) * kPageBytes}, previous);
      writer.abandon_record();
      const Lsn end = writer.record(500);
      ASSERT_GT(end, before);

      Scanner scanner = scanner_at(writer.begin());
      scanner.on_bytes(writer.at({writer.begin(), writer.end()}));
      EXPECT_EQ(scanner.fault(), ScanFault::kNone) << room << ", " << pages << ": " << to_string(scanner.fault());
      EXPECT_EQ(scanner.valid_end(), end) << room << ", " << pages;
    }
  }
}

TEST(Scanner, RefusesARecycledSegmentsOldPages) {
  Sample fresh = sample(5, 30);
  wal::WalWriter old(Lsn{1u << 20}, kSegment, kSystem);
  while (old.end().value < (1u << 20) + 400000) old.record(200);
  std::vector<std::byte> bytes(all(fresh).begin(), all(fresh).end());
  const auto stale = old.at({old.begin() + ByteCount{bytes.size()}, old.end()});
  bytes.insert(bytes.end(), stale.begin(), stale.end());
  Scanner scanner = scanner_at(fresh.writer.begin());
  scanner.on_bytes(bytes);
  EXPECT_EQ(scanner.valid_end(), fresh.ends.back());
  EXPECT_NE(scanner.fault(), ScanFault::kNone);
}

TEST(Scanner, RefusesAnotherClustersSegment) {
  Sample s = sample(6, 3);
  Scanner scanner(SegmentLayout(kSegment), s.writer.begin(), Scanner::Start::kPage, {SystemId{78}, {}});
  scanner.on_bytes(all(s));
  EXPECT_EQ(scanner.fault(), ScanFault::kSegmentHeader);
  EXPECT_EQ(scanner.valid_end(), s.writer.begin());
}

TEST(Scanner, GoesOnAtARecordAfterARestart) {
  Sample s = sample(7, 100);
  Scanner scanner = scanner_at(s.writer.begin());
  scanner.on_bytes(s.writer.at({s.writer.begin(), s.ends[50]}));
  scanner.restart(s.ends[40], Scanner::Start::kRecord);
  EXPECT_EQ(scanner.valid_end(), s.ends[50]) << "it never falls";
  Scanner other = scanner_at(s.ends[40], Scanner::Start::kRecord);
  other.on_bytes(s.writer.at({s.ends[40], s.writer.end()}));
  EXPECT_EQ(other.valid_end(), s.ends.back());
}

TEST(Scanner, SkipsAContinuationAtThePageItStartsWith) {
  wal::WalWriter writer(Lsn{3u << 20}, kSegment, kSystem);
  writer.record(20000);
  const Lsn last = writer.record(100);
  Scanner scanner = scanner_at(writer.begin() + ByteCount{kPageBytes});
  scanner.on_bytes(writer.at({writer.begin() + ByteCount{kPageBytes}, writer.end()}));
  EXPECT_EQ(scanner.valid_end(), last);
  EXPECT_EQ(scanner.records(), 1u);
}

TEST(Crc32c, MatchesTheVectorsOfRfc3720) {
  std::vector<std::byte> bytes(32, std::byte{0});
  Crc32c zeros;
  zeros.add(bytes);
  EXPECT_EQ(zeros.value(), 0x8a9136aau);
  std::ranges::fill(bytes, std::byte{0xff});
  Crc32c ones;
  ones.add(bytes);
  EXPECT_EQ(ones.value(), 0x62a8ab43u);
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(i);
  Crc32c rising;
  rising.add(std::span(bytes).first(5));
  rising.add(std::span(bytes).subspan(5));
  EXPECT_EQ(rising.value(), 0x46dd794eu);
}

// ---- Recovery

class MemorySource : public SegmentSource {
 public:
  MemorySource(Lsn begin, std::vector<std::byte> bytes, std::size_t most = SIZE_MAX)
      : begin_(begin), bytes_(std::move(bytes)), most_(most) {}
  std::size_t read(Lsn at, std::span<std::byte> out) override {
    const std::uint64_t from = at.value - begin_.value;
    if (from >= bytes_.size()) return 0;
    const std::size_t count = std::min({out.size(), bytes_.size() - from, most_});
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(from), count, out.begin());
    return count;
  }

 private:
  Lsn begin_;
  std::vector<std::byte> bytes_;
  std::size_t most_;  // That one read returns.
};

TEST(Recovery, GoesOnBehindReadsThatReturnLessThanWasAsked) {
  Sample s = sample(9, 100);
  const auto whole = all(s);
  MemorySource source(s.writer.begin(), {whole.begin(), whole.end()}, 1000);
  const SegmentLayout layout(kSegment);
  EXPECT_EQ(recover(source, layout, s.writer.begin(), Scanner::Start::kPage, {kSystem, {}}).durable_end, s.ends.back());
  std::vector<std::byte> out(5000);
  EXPECT_TRUE(read_whole(source, s.writer.begin(), out));
  EXPECT_TRUE(std::ranges::equal(out, std::span(whole).first(out.size())));
  EXPECT_FALSE(read_whole(source, s.writer.begin() + ByteCount{whole.size() - 4999}, out));
}

TEST(Recovery, OfTornWritesNeverFindsLessThanWasAcknowledgedNorMoreThanIsWhole) {
  Sample s = sample(8, 200);
  const auto whole = all(s);
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    // Everything below `synced` is on disk; of the sectors behind it, a random subset.
    const std::size_t synced = random() % whole.size();
    std::vector<std::byte> disk(kSegment.value * 4, std::byte{0});
    std::copy_n(whole.begin(), synced, disk.begin());
    for (std::size_t sector = synced / 512 * 512; sector < whole.size(); sector += 512)
      if (random() % 2)
        std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(sector),
                    std::min<std::size_t>(512, whole.size() - sector),
                    disk.begin() + static_cast<std::ptrdiff_t>(sector));
    Lsn acknowledged = s.writer.begin();
    for (const Lsn end : s.ends)
      if (end.value <= s.writer.begin().value + synced) acknowledged = end;
    MemorySource source(s.writer.begin(), disk);
    const Recovered recovered =
        recover(source, SegmentLayout(kSegment), s.writer.begin(), Scanner::Start::kPage, {kSystem, {}});
    ASSERT_GE(recovered.durable_end, acknowledged) << "round " << round;
    const std::size_t length = (recovered.durable_end - s.writer.begin()).value;
    ASSERT_TRUE(std::equal(disk.begin(), disk.begin() + static_cast<std::ptrdiff_t>(length), whole.begin()))
        << "round " << round;
  }
}

TEST(Recovery, OfAnEmptyLogIsItsBegin) {
  MemorySource source(Lsn{1u << 20}, {});
  const Recovered recovered =
      recover(source, SegmentLayout(kSegment), Lsn{1u << 20}, Scanner::Start::kPage, {kSystem, {}});
  EXPECT_EQ(recovered.durable_end, Lsn{1u << 20});
  EXPECT_EQ(recovered.next_start, Scanner::Start::kPage);
}

}  // namespace
}  // namespace slipstream::wal
