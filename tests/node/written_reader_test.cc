#include "node/written_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/digest.h"
#include "wal/wal_writer.h"

// What is taken of WAL that PostgreSQL has written to its files, but not flushed.
namespace slipstream::node {
namespace {

constexpr Lsn kBegin{3u << 20};
constexpr ByteCount kSegment{1u << 20};
constexpr SystemId kServer{9};
constexpr std::size_t kRing = 4u << 20;
constexpr std::uint64_t kPage = wal::kPageBytes;

class WrittenReaderTest : public testing::Test {
 protected:
  void restart(Lsn begin = kBegin) {
    log.reset(begin);
    confirmed = begin;
    reader.restart(wal::SegmentLayout(kSegment), {kServer, TimelineId{1}}, begin);
  }
  // A whole record is confirmed, so that what follows may go ahead.
  void begin() {
    restart();
    first_end = wal.record(100);
    write(first_end);
    confirm(first_end);
    reader.allow(true);
  }
  std::byte& file_at(Lsn at) { return file[(at - kBegin).value]; }
  void write(LsnRange range) { std::ranges::copy(wal.at(range), file.begin() + offset(range.begin)); }
  void write(Lsn end) { write({std::exchange(written, end), end}); }
  void read_into_memory(LsnRange range) {
    std::copy_n(file.begin() + offset(range.begin), range.size().value, log.memory(range).begin());
  }
  // As the confirmer does with PostgreSQL's stream: what is not in the log yet is read.
  void confirm(Lsn end) {
    for (Lsn at = std::max(confirmed, log.end()); at < end;) {
      const Lsn to = std::min({end, at + ByteCount{protocol::kBatchBytesMax},
                               align_down(at, protocol::kBatchBoundary) + ByteCount{protocol::kBatchBoundary}});
      (void)log.reserve({at, to});
      read_into_memory({at, to});
      log.append({{at, to}, xxh3_64(log.memory({at, to}))});
      confirmed = at = to;
      reader.on_confirmed();
    }
    confirmed = std::max(confirmed, end);
    reader.on_confirmed();
  }
  bool read_once() {
    const auto range = reader.next_range(confirmed);
    if (!range) return false;
    EXPECT_FALSE(reader.next_range(confirmed)) << "one at a time";
    most_read = std::max(most_read, range->end);
    read_into_memory(*range);
    reader.on_read(DiskStatus::kOk);
    return true;
  }
  void read() {
    reader.on_written();
    while (read_once()) continue;
  }
  void expect_log_is_wal() {
    for (Lsn at = log.begin(); at < log.end();) {
      const auto batch = log.batch_from(at);
      ASSERT_TRUE(batch);
      ASSERT_LE(batch->range.size().value, protocol::kBatchBytesMax);
      ASSERT_EQ(batch->range.begin.value / protocol::kBatchBoundary,
                (batch->range.end.value - 1) / protocol::kBatchBoundary);
      ASSERT_EQ(batch->digest, xxh3_64(wal.at(batch->range))) << to_string(batch->range);
      at = batch->range.end;
    }
  }
  // A record that ends where a page does.
  Lsn record_to_the_pages_end() { return wal.record(kPage - wal.end().value % kPage - 24); }

  static std::ptrdiff_t offset(Lsn at) { return static_cast<std::ptrdiff_t>((at - kBegin).value); }

  std::vector<std::byte> ring = std::vector<std::byte>(kRing), file = std::vector<std::byte>(6u << 20);
  ShipLog log{ring};
  wal::WalWriter wal{kBegin, kSegment, kServer};
  WrittenReader reader{log};
  Lsn confirmed, written = kBegin, first_end, most_read;
};
using WrittenWal = WrittenReaderTest;

TEST_F(WrittenWal, IsTakenUpToTheLastCompleteRecordWhereverTheWritesEnd) {
  begin();
  std::mt19937 random(1);
  std::vector<Lsn> ends{first_end};
  for (int i = 0; i < 200; ++i) ends.push_back(wal.record(random() % 8 == 0 ? random() % 20'000 : random() % 300));
  int half = 0;
  while (written < wal.end()) {
    write(std::min(wal.end(), written + ByteCount{8 * (random() % 500 + 1)}));  // Padding is zeros in any case.
    read();
    const Lsn last = *std::prev(std::ranges::upper_bound(ends, written));
    half += last < written ? 1 : 0;
    ASSERT_EQ(log.end(), last) << "written to " << to_string(written);
    ASSERT_LE(most_read.value, align_down(log.end(), kPage).value + 128 * 1024);
  }
  EXPECT_GT(half, 10);
  EXPECT_EQ(log.end(), wal.end());
  expect_log_is_wal();
}

TEST_F(WrittenWal, IsNotReadWithoutNews) {
  begin();
  write(wal.record(100));
  EXPECT_FALSE(reader.next_range(confirmed));
  reader.on_written();
  EXPECT_TRUE(reader.next_range(confirmed));
}

TEST_F(WrittenWal, OfWhichAPageIsMissingIsTakenOnceItIsThere) {
  begin();
  const Lsn end = wal.record(30'000), hole = kBegin + ByteCount{2 * kPage + 500};
  const LsnRange missing{hole, hole + ByteCount{4096}};
  write(end);
  std::fill_n(file.begin() + offset(hole), missing.size().value, std::byte{0});  // In a page whose header is there.
  read();
  EXPECT_EQ(log.end(), first_end);
  write(missing);
  EXPECT_FALSE(read_once()) << "without a hint";
  read();
  EXPECT_EQ(log.end(), end);
  expect_log_is_wal();
}

TEST_F(WrittenWal, WhoseFileCannotBeReadYetIsReadAtTheNextHint) {
  begin();
  const Lsn end = wal.record(100);
  write(end);
  reader.on_written();
  const auto range = reader.next_range(confirmed);
  ASSERT_TRUE(range);
  read_into_memory(*range);
  reader.on_read(DiskStatus::kMissing);
  EXPECT_EQ(log.end(), first_end);
  EXPECT_FALSE(read_once());
  read();
  EXPECT_EQ(log.end(), end);
}

TEST_F(WrittenWal, GoesAMebibyteAheadAndNoFurther) {
  begin();
  while (wal.end() < kBegin + ByteCount{3u << 20}) wal.record(1000);
  write(wal.end());
  for (const std::uint64_t more : {0u, 700'000u, 900'000u}) {
    confirm(align_down(confirmed + ByteCount{more}, 8));
    read();
    EXPECT_LE(most_read, confirmed + ByteCount{WrittenReader::kAheadMax});
    EXPECT_LE(log.end(), confirmed + ByteCount{WrittenReader::kAheadMax});
    EXPECT_GE(log.end() + ByteCount{2000}, confirmed + ByteCount{WrittenReader::kAheadMax});
  }
  expect_log_is_wal();
}

TEST_F(WrittenWal, IsTakenOnlyWhileThatIsAllowed) {
  begin();
  reader.allow(false);
  const Lsn end = wal.record(100);
  write(end);
  read();
  EXPECT_EQ(log.end(), first_end);
  EXPECT_EQ(most_read, Lsn{});
  reader.allow(true);
  read();
  EXPECT_EQ(log.end(), end);
}

TEST_F(WrittenWal, WaitsForAWholeConfirmedRecord) {
  const Lsn end = wal.record(30'000), second = wal.record(100), third = wal.record(100);
  restart();
  reader.allow(true);
  write(wal.end());
  read();
  EXPECT_EQ(most_read, Lsn{}) << "nothing is confirmed";
  confirm(kBegin + ByteCount{kPage});
  read();
  EXPECT_EQ(most_read, Lsn{}) << "half a record is";
  confirm(end);
  read();
  EXPECT_EQ(log.end(), third);
  // Begun in its midst, the long one does not count: nobody checks it.
  restart(kBegin + ByteCount{kPage});
  reader.allow(true);
  most_read = {};
  confirm(end);
  read();
  EXPECT_EQ(most_read, Lsn{});
  confirm(second);
  read();
  EXPECT_EQ(log.end(), third);
  expect_log_is_wal();
}

TEST_F(WrittenWal, WhoseLinkIsToAnotherRecordIsNot) {
  begin();
  const Lsn previous = wal.previous();
  wal.cut(first_end, Lsn{previous.value - 8});
  write(wal.record(100));
  read();
  EXPECT_EQ(log.end(), first_end);
  wal.cut(first_end, previous);
  const Lsn end = wal.record(100);
  write({first_end, end});
  read();
  EXPECT_EQ(log.end(), end);
}

TEST_F(WrittenWal, OfAnotherPlaceIsNot) {
  begin();
  const Lsn page = record_to_the_pages_end();
  ASSERT_EQ(page.value % kPage, 0u);
  write(page);
  // A page of a recycled segment: its records are valid where they were.
  wal::WalWriter old(Lsn{kBegin.value - kSegment.value}, kSegment, kServer);
  while (old.end() < old.begin() + ByteCount{2 * kPage}) old.record(100);
  const auto at_its_place = old.at({old.begin() + ByteCount{page.value - kBegin.value}, old.end()});
  std::ranges::copy(at_its_place, file.begin() + offset(page));
  read();
  EXPECT_EQ(log.end(), page);
  const Lsn end = wal.record(100);
  write(end);
  read();
  EXPECT_EQ(log.end(), end);
}

TEST_F(WrittenWal, OfAnotherServerIsNot) {
  begin();
  while (wal.end() < kBegin + kSegment) record_to_the_pages_end();
  const Lsn segment = wal.end(), previous = wal.previous();
  write(segment);
  read();
  wal::WalWriter other(segment, kSegment, SystemId{10});
  const auto bytes = other.at({segment, other.record(100)});
  std::ranges::copy(bytes, file.begin() + offset(segment));
  confirm(segment);
  read();
  EXPECT_EQ(log.end(), segment);
  ASSERT_EQ(wal.previous(), previous);
  const Lsn end = wal.record(100);
  write(end);
  read();
  EXPECT_EQ(log.end(), end);
}

TEST_F(WrittenWal, IsConfirmedInTheMidstOfARecordThatWasReadInPart) {
  for (const bool torn : {false, true}) {
    begin();
    const Lsn long_end = wal.record(60'000), end = wal.record(100);
    const Lsn read_end = kBegin + ByteCount{4 * kPage};
    const LsnRange hole{kBegin + ByteCount{2 * kPage + 100}, kBegin + ByteCount{2 * kPage + 600}};
    write(read_end);
    if (torn) std::fill_n(file.begin() + offset(hole.begin), hole.size().value, std::byte{0});
    read();
    EXPECT_EQ(log.end(), first_end);
    write(hole);
    confirm(kBegin + ByteCount{2 * kPage});  // Behind the place that was read to,
    write(wal.end());
    confirm(kBegin + ByteCount{5 * kPage});  // and beyond it.
    EXPECT_EQ(log.end(), confirmed);
    read();
    if (torn) {
      confirm(long_end);
      read();
    }
    EXPECT_EQ(log.end(), end) << torn;
    expect_log_is_wal();
    wal = wal::WalWriter(kBegin, kSegment, kServer);
    std::ranges::fill(file, std::byte{0});
    written = kBegin;
  }
}

TEST_F(WrittenWal, MayBeALongRecord) {
  begin();
  const Lsn end = wal.record(200 * 1024);
  write(Lsn{end.value - 1000});
  read();
  EXPECT_EQ(log.end(), first_end);
  write(end);
  read();
  EXPECT_EQ(log.end(), end);
  EXPECT_GT(log.batch_from(first_end)->range.size().value, 100'000u);
  expect_log_is_wal();
}

// No checksum covers what lies behind a switch up to the segment's end, and it may be an old file's still when it is
// read, although the next segment has records: PostgreSQL writes while this reads.
TEST_F(WrittenWal, GoesAheadUpToASwitchOfSegmentsAndOnceItsRestIsConfirmedBeyond) {
  begin();
  while (wal.end() < kBegin + ByteCount{900'000}) wal.record(5000);
  const Lsn switched = wal.switch_segment(), segment = wal.end();
  ASSERT_EQ(segment, kBegin + kSegment);
  write(switched);
  std::fill(file.begin() + offset(switched), file.begin() + offset(segment), std::byte{0x77});
  read();
  EXPECT_EQ(log.end(), switched);
  const Lsn end = wal.record(100);
  write({segment, end});
  read();
  EXPECT_EQ(log.end(), switched);
  write({switched, segment});
  confirm(Lsn{segment.value - 8000});
  read();
  EXPECT_EQ(log.end(), confirmed);
  confirm(segment);
  read();
  EXPECT_EQ(log.end(), end);
  expect_log_is_wal();
}

TEST_F(WrittenWal, GoesAheadAgainBehindBytesThatWereConfirmedAlthoughTheyAreNoRecords) {
  begin();
  const Lsn broken = wal.record(3000), page = record_to_the_pages_end();
  write(page);
  file_at(Lsn{broken.value - 100}) ^= std::byte{1};
  read();
  EXPECT_EQ(log.end(), first_end);
  confirm(broken);  // The stream has it so.
  const Lsn third = wal.record(100), last = wal.record(100);
  write(last);
  most_read = {};
  read();
  EXPECT_EQ(most_read, Lsn{});
  confirm(page);
  read();
  EXPECT_EQ(most_read, Lsn{}) << "no record was checked since";
  confirm(third);
  read();
  EXPECT_EQ(log.end(), last);
}

TEST_F(WrittenWal, IsNotTakenAnyMoreOnceStopped) {
  begin();
  write(wal.record(100));
  reader.on_written();
  const auto range = reader.next_range(confirmed);
  ASSERT_TRUE(range);
  reader.stop();
  read_into_memory(*range);
  reader.on_read(DiskStatus::kOk);
  EXPECT_EQ(log.end(), first_end);
  reader.allow(true);
  read();
  EXPECT_EQ(log.end(), first_end);
  EXPECT_EQ(reader.apply_awaited_end(), Lsn{});
}

}  // namespace
}  // namespace slipstream::node
