#include "wal/io/segment_reader.h"

#include <unistd.h>

#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

class Reader : public testing::TestWithParam<bool> {
 protected:
  std::string name(std::uint64_t number, std::uint32_t timeline = 1) const {
    return layout_.file_name(TimelineId{timeline}, number);
  }
  IoStatus read(LsnRange range, bool bulk, std::span<std::byte> into) {
    EXPECT_TRUE(reader_.submit(1, range, into, bulk));
    return run(ring_, &reader_, nullptr, 1)[1];
  }
  std::size_t open_deleted_files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code ignored;
      const auto target = std::filesystem::read_symlink(entry.path(), ignored).string();
      if (target.starts_with(directory_.path().string()) && target.ends_with("(deleted)")) ++count;
    }
    return count;
  }

  TemporaryDirectory directory_;
  SegmentLayout layout_{kMiB};
  IoRing ring_{128, GetParam()};
  SegmentReader reader_{ring_, directory_.path(), layout_, TimelineHistory(TimelineId{1})};
  Memory memory_{2u << 20};
};

INSTANTIATE_TEST_SUITE_P(, Reader, testing::Bool(), [](const auto& each) { return each.param ? "Blocking" : "Uring"; });

TEST_P(Reader, ReadsSixtyFourRangesOfManySegmentsAtOnce) {
  for (std::uint64_t number = 1; number <= 24; ++number) make_segment(directory_.path(), layout_, number);
  std::vector<LsnRange> ranges;
  for (std::uint32_t i = 0; i < SegmentReader::kReadsMax; ++i) {
    const Lsn begin =
        layout_.begin_of(1 + i % 24) + ByteCount{i * 12345 % 900'000};  // More segments than are kept open.
    ranges.push_back({begin, begin + ByteCount{1 + i * 500}});
    ASSERT_TRUE(reader_.submit(i, ranges[i], memory_.span().subspan(i * 32768, ranges[i].size().value), i % 2 == 0))
        << i;
  }
  EXPECT_FALSE(reader_.submit(99, ranges[0], memory_.span().first(ranges[0].size().value), false));
  for (const auto& [id, status] : run(ring_, &reader_, nullptr, ranges.size())) {
    EXPECT_EQ(status, IoStatus::kOk) << id;
    EXPECT_TRUE(holds(memory_.span().subspan(id * 32768, ranges[id].size().value), ranges[id].begin)) << id;
  }
}

TEST_P(Reader, ReadsAWholeSegmentToItsLastByte) {
  make_segment(directory_.path(), layout_, 5);
  const LsnRange range{layout_.begin_of(5), layout_.begin_of(6)};
  EXPECT_EQ(read(range, true, memory_.span().first(range.size().value)), IoStatus::kOk);
  EXPECT_TRUE(holds(memory_.span().first(range.size().value), range.begin));
}

TEST_P(Reader, SaysMissingForASegmentThatIsNotThereOrEndsTooEarly) {
  const Lsn at = layout_.begin_of(3);
  EXPECT_EQ(read({at, at + ByteCount{100}}, false, memory_.span().first(100)), IoStatus::kMissing);
  make_segment(directory_.path(), layout_, 3);
  std::filesystem::resize_file(directory_.path() / name(3), 5000);
  EXPECT_EQ(read({at + ByteCount{4000}, at + ByteCount{6000}}, false, memory_.span().first(2000)), IoStatus::kMissing);
  EXPECT_EQ(read({at + ByteCount{4000}, at + ByteCount{5000}}, false, memory_.span().first(1000)), IoStatus::kOk);
}

TEST_P(Reader, SaysFailedNotMissingForASegmentThatItMayNotOrCannotRead) {
  make_segment(directory_.path(), layout_, 3);
  std::filesystem::permissions(directory_.path() / name(3), std::filesystem::perms::none);
  std::filesystem::create_directory(directory_.path() / name(4));
  {
    const AsNobody nobody;
    EXPECT_EQ(read({layout_.begin_of(3), layout_.begin_of(3) + ByteCount{8}}, false, memory_.span().first(8)),
              IoStatus::kFailed);
  }
  EXPECT_EQ(read({layout_.begin_of(4), layout_.begin_of(4) + ByteCount{8}}, false, memory_.span().first(8)),
            IoStatus::kFailed);
}

TEST_P(Reader, NoticesThatASegmentWasRecycledDuringABulkRead) {
  make_segment(directory_.path(), layout_, 1);
  const LsnRange range{layout_.begin_of(1), layout_.begin_of(2)};
  ASSERT_TRUE(reader_.submit(1, range, memory_.span().first(range.size().value), true));
  std::filesystem::rename(directory_.path() / name(1), directory_.path() / name(7));
  EXPECT_EQ(run(ring_, &reader_, nullptr, 1)[1], IoStatus::kMissing);
}

TEST_P(Reader, NoticesRecyclingBelowTheNewestSegmentInTailReadsToo) {
  for (const std::uint64_t number : {1u, 2u}) {
    make_segment(directory_.path(), layout_, number);
    EXPECT_EQ(
        read({layout_.begin_of(number), layout_.begin_of(number) + ByteCount{10}}, false, memory_.span().first(10)),
        IoStatus::kOk);
  }
  std::filesystem::rename(directory_.path() / name(1), directory_.path() / name(7));
  EXPECT_EQ(read({layout_.begin_of(1), layout_.begin_of(1) + ByteCount{10}}, false, memory_.span().first(10)),
            IoStatus::kMissing);
}

TEST_P(Reader, ReadsAgainFromTheFileThatBearsTheNameNow) {
  make_segment(directory_.path(), layout_, 1, TimelineId{1}, 0);
  const LsnRange range{layout_.begin_of(1), layout_.begin_of(1) + ByteCount{50'000}};
  const auto into = memory_.span().first(range.size().value);
  EXPECT_EQ(read(range, true, into), IoStatus::kOk);  // Opened.
  std::filesystem::rename(directory_.path() / name(1), directory_.path() / name(7));
  make_segment(directory_.path(), layout_, 1, TimelineId{1}, 5);
  EXPECT_EQ(read(range, true, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, range.begin, 5));
}

TEST_P(Reader, LetsGoOfFilesThatWereRemovedWhenItOpensTheNext) {
  for (const std::uint64_t number : {1u, 2u}) make_segment(directory_.path(), layout_, number);
  EXPECT_EQ(read({layout_.begin_of(1), layout_.begin_of(1) + ByteCount{10}}, false, memory_.span().first(10)),
            IoStatus::kOk);
  std::filesystem::remove(directory_.path() / name(1));
  EXPECT_EQ(open_deleted_files(), 1u);
  EXPECT_EQ(read({layout_.begin_of(2), layout_.begin_of(2) + ByteCount{10}}, false, memory_.span().first(10)),
            IoStatus::kOk);
  EXPECT_EQ(open_deleted_files(), 0u);
  std::filesystem::remove(directory_.path() / name(2));
  reader_.close_before(layout_.begin_of(3));
  EXPECT_EQ(open_deleted_files(), 0u);
}

TEST_P(Reader, TakesEachPositionFromTheFileOfTheTimelineThatHoldsIt) {
  make_segment(directory_.path(), layout_, 1, TimelineId{1}, 1);
  make_segment(directory_.path(), layout_, 2, TimelineId{1}, 1);
  make_segment(directory_.path(), layout_, 2, TimelineId{2}, 2);
  const auto into = memory_.span().first(1000);
  const auto at = [&](std::uint64_t number) {
    return LsnRange{layout_.begin_of(number), layout_.begin_of(number) + ByteCount{1000}};
  };
  EXPECT_EQ(read(at(2), false, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, at(2).begin, 1));
  const auto history = TimelineHistory::parse(TimelineId{2}, "1\t0/240000\tno reason given\n");  // Inside segment 2.
  ASSERT_TRUE(history.has_value());
  reader_.set_history(*history);
  EXPECT_EQ(read(at(2), false, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, at(2).begin, 2));
  EXPECT_EQ(read(at(1), false, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, at(1).begin, 1));
}

TEST_P(Reader, TakesTheAncestorsFileOnlyUntilTheForksOwnIsThere) {
  make_segment(directory_.path(), layout_, 2, TimelineId{1}, 1);
  make_segment(directory_.path(), layout_, 3, TimelineId{1}, 1);
  const auto into = memory_.span().first(1000);
  const auto at = [&](std::uint64_t number) {
    return LsnRange{layout_.begin_of(number), layout_.begin_of(number) + ByteCount{1000}};
  };
  const auto history = TimelineHistory::parse(TimelineId{2}, "1\t0/240000\tno reason given\n");  // Inside segment 2.
  ASSERT_TRUE(history.has_value());
  reader_.set_history(*history);
  EXPECT_EQ(read(at(2), false, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, at(2).begin, 1));
  EXPECT_EQ(read(at(3), false, into), IoStatus::kMissing);
  make_segment(directory_.path(), layout_, 2, TimelineId{2}, 2);
  EXPECT_EQ(read(at(2), false, into), IoStatus::kOk);
  EXPECT_TRUE(holds(into, at(2).begin, 2));
}

}  // namespace
}  // namespace slipstream::wal::io
