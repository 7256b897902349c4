#include "wal/io/ledger_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

const SegmentLayout kLayout{ByteCount{4 << 20}};  // Several pieces each.
constexpr TimelineId kTimeline{1};
constexpr std::uint64_t kNumber = 3;

class LedgerFiles : public testing::Test {
 protected:
  LedgerFiles() {
    EXPECT_TRUE(make_ledger_directory(ledgers_));
    make_segment(directory_.path(), kLayout, kNumber);
  }
  Ledger digest(LedgerReading reading = LedgerReading::kLeaveCache) const {
    auto made = digest_segment(segment_, kLayout, reading);
    EXPECT_TRUE(made.has_value() && made->has_value());
    return **made;
  }
  void flip(std::uint64_t offset) const {
    auto bytes = content_of(segment_.path);
    bytes[offset] ^= std::byte{1};
    make_file(segment_.path, bytes);
  }
  // Pages of the segment's file in the page cache; `drop`: after they were dropped from it.
  std::size_t cached_pages(bool drop) const {
    const int fd = ::open(segment_.path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(::fsync(fd), 0);
    if (drop) {
      EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    }
    const std::size_t size = kLayout.segment_size().value;
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    std::vector<unsigned char> pages(size / 4096);
    EXPECT_EQ(::mincore(at, size, pages.data()), 0);
    ::munmap(at, size);
    ::close(fd);
    return static_cast<std::size_t>(std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
  }

  const TemporaryDirectory directory_;
  const std::filesystem::path ledgers_ = directory_.path() / "ledger";
  const SegmentFile segment_{kTimeline, kNumber, directory_.path() / kLayout.file_name(kTimeline, kNumber)};
};

TEST_F(LedgerFiles, HasTheDigestsOfAllBlocksHoweverTheFileIsRead) {
  FileSegmentSource source(directory_.path(), kLayout);
  const LsnRange range{kLayout.begin_of(kNumber), kLayout.begin_of(kNumber + 1)};
  for (const LedgerReading reading : {LedgerReading::kLeaveCache, LedgerReading::kFromStorage}) {
    const Ledger made = digest(reading);
    EXPECT_EQ(made.timeline, kTimeline);
    EXPECT_EQ(made.segment, range);
    EXPECT_EQ(made.blocks, digest_blocks(source, kLayout, range));
    EXPECT_EQ(made.blocks.size(), 64u);
  }
}

TEST_F(LedgerFiles, LeavesThePageCacheAsItWas) {
  const std::size_t all = kLayout.segment_size().value / 4096;
  if (cached_pages(true) != 0) GTEST_SKIP() << "this file system keeps its files in the page cache";
  (void)digest();
  EXPECT_EQ(cached_pages(false), 0u) << "what was not cached must not be afterwards";
  (void)content_of(segment_.path);
  ASSERT_EQ(cached_pages(false), all);
  (void)digest();
  EXPECT_EQ(cached_pages(false), all) << "what others had cached must stay";
}

TEST_F(LedgerFiles, KeepsALedgerUnderItsSegmentsNameAndLoadsIt) {
  const Ledger made = digest();
  ASSERT_TRUE(keep_ledger(ledgers_, kLayout, made));
  EXPECT_EQ(names_in(ledgers_), std::vector<std::string>{segment_.path.filename().string()});
  const auto loaded = load_ledger(ledgers_, kLayout, kTimeline, kNumber);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message();
  EXPECT_EQ(*loaded, made);
}

TEST_F(LedgerFiles, RefusesALedgerUnderAnotherSegmentsName) {
  ASSERT_TRUE(keep_ledger(ledgers_, kLayout, digest()));
  for (const auto& [timeline, number] : {std::pair{TimelineId{1}, kNumber + 1}, std::pair{TimelineId{2}, kNumber}}) {
    std::filesystem::copy(ledgers_ / segment_.path.filename(), ledgers_ / kLayout.file_name(timeline, number));
    const auto loaded = load_ledger(ledgers_, kLayout, timeline, number);
    ASSERT_FALSE(loaded.has_value());
    EXPECT_NE(loaded.error().what.find("another segment: timeline 1"), std::string::npos) << loaded.error().message();
    EXPECT_EQ(loaded.error().where, ledgers_ / kLayout.file_name(timeline, number));
  }
}

TEST_F(LedgerFiles, FindsEverySegmentEqualToItsLedgerUntilABitIsFlippedAndNamesThatBlock) {
  const Ledger made = digest();
  const std::uint64_t size = kLayout.segment_size().value;
  const auto equal = check_segment(segment_, kLayout, made);
  ASSERT_TRUE(equal.has_value()) << equal.error().message();
  EXPECT_EQ(equal->blocks, 64u);
  EXPECT_EQ(equal->difference, std::nullopt);
  for (const std::uint64_t offset : {std::uint64_t{0}, kBlockBytes - 1, kBlockBytes, size / 2 + 12345, size - 1}) {
    flip(offset);
    const auto checked = check_segment(segment_, kLayout, made);
    ASSERT_TRUE(checked.has_value());
    ASSERT_TRUE(checked->difference.has_value()) << "offset " << offset;
    EXPECT_TRUE(checked->difference->contains(kLayout.begin_of(kNumber) + ByteCount{offset}));
    EXPECT_EQ(checked->blocks, offset / kBlockBytes);
    flip(offset);
  }
}

TEST_F(LedgerFiles, ComparesOnlyWhatALedgerOfFirstBlocksCovers) {
  Ledger first = digest();
  first.blocks.resize(20);
  const LsnRange part{first.blocks.back().range.begin, first.blocks.back().range.begin + ByteCount{100}};
  const auto bytes = content_of(segment_.path);
  first.blocks.back() = {part, xxh3_128(std::span(bytes).subspan(kLayout.offset_of(part.begin), 100))};
  const std::uint64_t covered = 19 * kBlockBytes + 100;
  flip(covered);
  EXPECT_EQ(check_segment(segment_, kLayout, first)->difference, std::nullopt);
  EXPECT_EQ(check_segment(segment_, kLayout, first)->blocks, 20u);
  flip(covered - 1);
  EXPECT_EQ(check_segment(segment_, kLayout, first)->difference, part);
}

TEST_F(LedgerFiles, DiscardsWhatItReadFromASegmentThatIsRecycledMeanwhile) {
  const auto later = directory_.path() / kLayout.file_name(kTimeline, kNumber + 9);
  std::size_t pieces = 0;
  const auto recycled = [&] {
    if (++pieces == 2) std::filesystem::rename(segment_.path, later);
    return true;
  };
  auto made = digest_segment(segment_, kLayout, LedgerReading::kLeaveCache, recycled);
  ASSERT_TRUE(made.has_value());
  EXPECT_FALSE(made->has_value());
  EXPECT_EQ(pieces, 4u) << "it is noticed at the end, too";
  // Another file under the name: as if the segment had been restored meanwhile.
  std::filesystem::rename(later, segment_.path);
  made = digest_segment(segment_, kLayout, LedgerReading::kLeaveCache, [&] {
    if (pieces++ == 4)
      std::filesystem::rename(segment_.path, later), make_segment(directory_.path(), kLayout, kNumber, kTimeline, 7);
    return true;
  });
  ASSERT_TRUE(made.has_value());
  EXPECT_FALSE(made->has_value());
}

TEST_F(LedgerFiles, EndsBetweenPiecesWhenToldTo) {
  std::size_t pieces = 0;
  const auto made = digest_segment(segment_, kLayout, LedgerReading::kLeaveCache, [&] { return ++pieces < 2; });
  ASSERT_TRUE(made.has_value());
  EXPECT_FALSE(made->has_value());
  EXPECT_EQ(pieces, 2u);
}

TEST_F(LedgerFiles, NamesASegmentThatIsTooShortAndOneThatIsMissing) {
  const Ledger made = digest();
  std::filesystem::resize_file(segment_.path, kLayout.segment_size().value - 4096);
  const auto cut = digest_segment(segment_, kLayout, LedgerReading::kLeaveCache);
  ASSERT_FALSE(cut.has_value());
  EXPECT_EQ(cut.error().code, ExitCode::kDirectory);
  EXPECT_NE(cut.error().what.find("too short"), std::string::npos);
  std::filesystem::remove(segment_.path);
  const auto gone = digest_segment(segment_, kLayout, LedgerReading::kLeaveCache);
  ASSERT_TRUE(gone.has_value());
  EXPECT_FALSE(gone->has_value());
  const auto checked = check_segment(segment_, kLayout, made);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().where, segment_.path);
  EXPECT_NE(checked.error().what.find("missing"), std::string::npos);
}

TEST_F(LedgerFiles, RemovesTheLedgersOfSegmentsThatAreNotWhollyBelowAnEnd) {
  for (std::uint64_t number = kNumber; number < kNumber + 3; ++number) {
    make_segment(directory_.path(), kLayout, number);
    const SegmentFile segment{kTimeline, number, directory_.path() / kLayout.file_name(kTimeline, number)};
    ASSERT_TRUE(keep_ledger(ledgers_, kLayout, **digest_segment(segment, kLayout, LedgerReading::kLeaveCache)));
  }
  EXPECT_EQ(remove_ledgers_beyond(ledgers_, kLayout, kLayout.begin_of(kNumber + 3)), 0u);
  EXPECT_EQ(remove_ledgers_beyond(ledgers_, kLayout, Lsn{kLayout.begin_of(kNumber + 2).value - 1}), 2u);
  EXPECT_EQ(names_in(ledgers_), std::vector<std::string>{segment_.path.filename().string()});
  EXPECT_EQ(remove_ledgers_beyond(directory_.path() / "not there", kLayout, Lsn{0}), 0u);
}

TEST_F(LedgerFiles, MakesItsDirectoryForItsOwnerAloneAndClearsWhatACrashLeft) {
  make_file(ledgers_ / (segment_.path.filename().string() + ".new"), "half a ledger");
  ASSERT_TRUE(make_ledger_directory(ledgers_));
  EXPECT_TRUE(names_in(ledgers_).empty());
  EXPECT_EQ(std::filesystem::status(ledgers_).permissions(), std::filesystem::perms::owner_all);
  EXPECT_FALSE(make_ledger_directory(directory_.path() / "not there" / "ledger").has_value());
}

}  // namespace
}  // namespace slipstream::wal::io
