#include "wal/io/stale_pages.h"

#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

const SegmentLayout kLayout{kMiB};
constexpr TimelineId kTimeline{3};
constexpr std::uint64_t kSegment = 7;

// Like a pg_wal: every file has its full size, and pages carry the position that they were written for.
class StalePages : public testing::Test {
 protected:
  static constexpr Lsn page(std::uint64_t segment, std::uint64_t number) {
    return {(segment << 20) + number * kPageBytes};
  }
  void make(std::uint64_t segment, const std::vector<std::byte>& content = std::vector<std::byte>(kMiB.value)) const {
    std::ofstream(path_of(segment), std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  }
  // As it was written for segment `old`, and renamed since.
  void make_recycled(std::uint64_t segment, std::uint64_t old) const {
    make(segment);
    for (std::uint64_t n = 0; n < kMiB.value / kPageBytes; ++n) write(page(segment, n), page(old, n));
  }
  void write(Lsn at, Lsn address) const { write(at, address, 0xd110, kTimeline); }
  void write(Lsn at, Lsn address, std::uint16_t magic, TimelineId timeline) const {
    std::fstream file(path_of(kLayout.number_of(at)), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(kLayout.offset_of(at)));
    const std::uint16_t info = 0;
    file.write(reinterpret_cast<const char*>(&magic), 2).write(reinterpret_cast<const char*>(&info), 2);
    file.write(reinterpret_cast<const char*>(&timeline.value), 4);
    file.write(reinterpret_cast<const char*>(&address.value), 8);
  }
  void write(Lsn at) const { write(at, at); }
  std::filesystem::path path_of(std::uint64_t segment) const {
    return directory.path() / kLayout.file_name(kTimeline, segment);
  }
  Lsn end(Lsn flushed_end) const { return stale_pages_end(directory.path(), kLayout, kTimeline, flushed_end); }

  TemporaryDirectory directory;
};

TEST_F(StalePages, ThereAreNoneInNewAndInRecycledSegments) {
  make(kSegment);
  for (std::uint64_t n = 0; n < 10; ++n) write(page(kSegment, n));
  make_recycled(kSegment + 1, kSegment - 4);
  make_recycled(kSegment + 2, kSegment - 3);
  const Lsn within = page(kSegment, 9) + ByteCount{100}, behind = page(kSegment, 10);
  EXPECT_EQ(end(within), within);
  EXPECT_EQ(end(behind), behind);
  const Lsn begin = page(kSegment + 1, 0);
  EXPECT_EQ(end(begin), begin);
}

TEST_F(StalePages, TheLastOfTheFlushedPositionsSegmentCountsWhateverLiesBetween) {
  make_recycled(kSegment, kSegment - 4);
  write(page(kSegment, 10));
  const Lsn within = page(kSegment, 10) + ByteCount{40};
  EXPECT_EQ(end(within), within) << "its own page is this life's";
  EXPECT_EQ(end(page(kSegment, 10)), page(kSegment, 11)) << "the page that begins there is not";
  write(page(kSegment, 90));
  EXPECT_EQ(end(within), page(kSegment, 91));
  write(page(kSegment, 127));
  EXPECT_EQ(end(within), page(kSegment + 1, 0));
  EXPECT_EQ(end(page(kSegment, 127) + ByteCount{1}), page(kSegment, 127) + ByteCount{1});
}

TEST_F(StalePages, AreLookedForInTheNextSegmentToo) {
  make(kSegment), make_recycled(kSegment + 1, kSegment - 1);
  write(page(kSegment + 1, 3));
  for (const Lsn flushed : {page(kSegment, 0), page(kSegment, 5) + ByteCount{40}, page(kSegment, 127) + ByteCount{40}})
    EXPECT_EQ(end(flushed), page(kSegment + 1, 4)) << to_string(flushed);
}

TEST_F(StalePages, ALostRecordThatFilledSegmentsIsFollowedToItsEnd) {
  for (std::uint64_t n = kSegment; n < kSegment + 5; ++n) make_recycled(n, n == kSegment + 4 ? n - 5 : n);
  write(page(kSegment + 4, 60));
  make(kSegment + 5);
  EXPECT_EQ(end(page(kSegment, 20) + ByteCount{40}), page(kSegment + 4, 61));
}

TEST_F(StalePages, NoHeaderIsTooStrangeToCountIfItsPositionIsRight) {
  make(kSegment);
  write(page(kSegment, 70), page(kSegment, 70), 0, TimelineId{99});
  EXPECT_EQ(end(page(kSegment, 1) + ByteCount{40}), page(kSegment, 71));
}

TEST_F(StalePages, AMissingOrShortFileHasNone) {
  const Lsn flushed = page(kSegment, 3) + ByteCount{40};
  EXPECT_EQ(end(flushed), flushed);
  make(kSegment, std::vector<std::byte>(4 * kPageBytes + 12));
  EXPECT_EQ(end(flushed), flushed);
}

TEST_F(StalePages, WhereTheyCannotBeReadTheyMayBeAnywhere) {
  make(kSegment);
  std::filesystem::permissions(path_of(kSegment), std::filesystem::perms::none);
  const AsNobody nobody;
  EXPECT_EQ(end(page(kSegment, 3)), Lsn{UINT64_MAX});
}

}  // namespace
}  // namespace slipstream::wal::io
