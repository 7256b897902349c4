#include "wal/io/segment_writer.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <random>

#include "tests/wal/io/world.h"
#include "wal/io/files.h"

namespace slipstream::wal::io {
namespace {

constexpr std::uint64_t kBlock = SegmentWriter::kBlock;

struct Mode {
  const char* name;
  bool blocking;
  bool direct;
};

class Writer : public testing::TestWithParam<Mode> {
 protected:
  void open(ByteCount segment_size = kMiB, TimelineId timeline = {1}) {
    layout_ = SegmentLayout(segment_size);
    writer_.emplace(ring_, directory_.path(), layout_, timeline, [this] { ++wakes_; }, GetParam().direct);
  }
  void start(std::uint32_t id, Lsn at, std::size_t bytes, unsigned salt = 0) {
    memory_.emplace_back(bytes);
    fill(memory_.back().span(), at, salt);
    ASSERT_TRUE(writer_->submit(id, at, memory_.back().span())) << id;
  }
  IoStatus write(Lsn at, std::size_t bytes, unsigned salt = 0) {
    start(1, at, bytes, salt);
    return run(ring_, nullptr, &*writer_, 1)[1];
  }
  std::vector<std::byte> segment(std::uint64_t number, TimelineId timeline = {1}) const {
    return content_of(directory_.path() / layout_.file_name(timeline, number));
  }

  TemporaryDirectory directory_;
  SegmentLayout layout_{kMiB};
  std::deque<Memory> memory_;
  std::atomic<int> wakes_{0};
  IoRing ring_{128, GetParam().blocking};
  std::optional<SegmentWriter> writer_;
};

INSTANTIATE_TEST_SUITE_P(, Writer,
                         testing::Values(Mode{"UringDirect", false, true}, Mode{"UringBuffered", false, false},
                                         Mode{"BlockingDirect", true, true}, Mode{"BlockingBuffered", true, false}),
                         [](const auto& each) { return each.param.name; });

TEST_P(Writer, WritesSeveralSegmentsOutOfOrderAndBothReadersFindTheBytes) {
  open();
  // Every block of segments 3, 4 and 5 but the last quarter of 5, in shuffled pieces of 16 blocks.
  constexpr std::size_t kPiece = 16 * kBlock;
  std::vector<std::uint64_t> pieces((3 * kMiB.value - kMiB.value / 4) / kPiece);
  std::iota(pieces.begin(), pieces.end(), 0u);
  std::ranges::shuffle(pieces, std::mt19937(7));
  for (std::size_t done = 0; done < pieces.size();) {
    const std::size_t count = std::min<std::size_t>(pieces.size() - done, SegmentWriter::kWritesMax);
    for (std::size_t i = 0; i < count; ++i)
      start(static_cast<std::uint32_t>(i), layout_.begin_of(3) + ByteCount{pieces[done + i] * kPiece}, kPiece);
    for (const auto& [id, status] : run(ring_, nullptr, &*writer_, count)) EXPECT_EQ(status, IoStatus::kOk) << id;
    done += count;
  }
  for (const std::uint64_t number : {3u, 4u}) EXPECT_TRUE(holds(segment(number), layout_.begin_of(number))) << number;
  const auto last = segment(5);
  ASSERT_EQ(last.size(), kMiB.value);
  EXPECT_TRUE(holds(std::span(last).first(kMiB.value * 3 / 4), layout_.begin_of(5)));
  EXPECT_TRUE(is_zero(std::span(last).subspan(kMiB.value * 3 / 4)));

  SegmentReader reader(ring_, directory_.path(), layout_, TimelineHistory(TimelineId{1}));
  Memory into(kMiB.value);
  ASSERT_TRUE(reader.submit(1, {layout_.begin_of(4), layout_.begin_of(5)}, into.span(), true));
  EXPECT_EQ(run(ring_, &reader, &*writer_, 1)[1], IoStatus::kOk);
  EXPECT_TRUE(holds(into.span(), layout_.begin_of(4)));
}

TEST_P(Writer, RefusesMoreWritesThanItCanHaveUnderWay) {
  open();
  for (std::uint32_t i = 0; i < SegmentWriter::kWritesMax; ++i)
    start(i, layout_.begin_of(2) + ByteCount{i * kBlock}, kBlock);
  EXPECT_FALSE(
      writer_->submit(99, layout_.begin_of(2) + ByteCount{SegmentWriter::kWritesMax * kBlock}, memory_.back().span()));
  run(ring_, nullptr, &*writer_, SegmentWriter::kWritesMax);
}

TEST_P(Writer, NamesSegmentsAsPostgresqlDoesAndZeroesThem) {
  open(ByteCount{16u << 20}, TimelineId{3});
  const Lsn at = *parse_lsn("16/B374D000");
  EXPECT_EQ(write(at, 2 * kBlock), IoStatus::kOk);
  const auto path = directory_.path() / "0000000300000016000000B3";
  const auto content = content_of(path);
  ASSERT_EQ(content.size(), 16u << 20);
  const std::size_t offset = 0x74D000;
  EXPECT_TRUE(is_zero(std::span(content).first(offset)));
  EXPECT_TRUE(holds(std::span(content).subspan(offset, 2 * kBlock), at));
  EXPECT_TRUE(is_zero(std::span(content).subspan(offset + 2 * kBlock)));
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms{0600});
}

TEST_P(Writer, WritesABlockAgainWithMoreOfItFilled) {
  open();
  EXPECT_EQ(write(layout_.begin_of(2), kBlock, 1), IoStatus::kOk);
  EXPECT_EQ(write(layout_.begin_of(2), 2 * kBlock, 2), IoStatus::kOk);
  const auto again = segment(2);
  EXPECT_TRUE(holds(std::span(again).first(2 * kBlock), layout_.begin_of(2), 2));
}

TEST_P(Writer, MakesTheNextSegmentAheadOfNeedAndWakesForIt) {
  open();
  EXPECT_EQ(write(layout_.begin_of(2), kBlock), IoStatus::kOk);
  for (int i = 0; i < 2000 && wakes_ < 2; ++i) usleep(1000);
  EXPECT_EQ(names_in(directory_.path()),
            (std::vector<std::string>{layout_.file_name(TimelineId{1}, 2), layout_.file_name(TimelineId{1}, 3)}));
  EXPECT_TRUE(is_zero(segment(3)));
  EXPECT_EQ(segment(3).size(), kMiB.value);
}

TEST_P(Writer, GoesOnInSegmentsThatExistAndRemovesWhatACrashLeftHalfMade) {
  make_segment(directory_.path(), layout_, 2);
  make_file(directory_.path() / "xlogtemp.12345", "half made");
  open();
  EXPECT_EQ(write(layout_.begin_of(2) + ByteCount{kBlock}, kBlock, 9), IoStatus::kOk);
  const auto content = segment(2);
  EXPECT_TRUE(holds(std::span(content).first(kBlock), layout_.begin_of(2)));
  EXPECT_TRUE(holds(std::span(content).subspan(kBlock, kBlock), layout_.begin_of(2) + ByteCount{kBlock}, 9));
  EXPECT_TRUE(holds(std::span(content).subspan(2 * kBlock), layout_.begin_of(2) + ByteCount{2 * kBlock}));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "xlogtemp.12345"));
}

TEST_P(Writer, FailsAWriteToASegmentOfAnotherSize) {
  make_file(directory_.path() / layout_.file_name(TimelineId{1}, 2), std::string(8192, 'x'));
  open();
  EXPECT_EQ(write(layout_.begin_of(2), kBlock), IoStatus::kFailed);
}

TEST_P(Writer, FailsAWriteWhereItMayNotMakeSegments) {
  std::filesystem::permissions(directory_.path(), std::filesystem::perms{0555});
  const AsNobody nobody;
  open();
  EXPECT_EQ(write(layout_.begin_of(2), kBlock), IoStatus::kFailed);
}

TEST_P(Writer, StartsAForksFirstSegmentWithTheAncestorsBytes) {
  open();
  const Lsn fork = layout_.begin_of(2) + ByteCount{10 * kBlock + 100};
  EXPECT_EQ(write(layout_.begin_of(2), kBlock, 9), IoStatus::kOk);
  for (int i = 0; i < 2000 && wakes_ < 2; ++i) usleep(1000);  // The maker has nothing else to do.
  start(1, layout_.begin_of(2), 32 * kBlock, 1);
  // The history changes while the ancestor's bytes are still on their way.
  const auto history = TimelineHistory::parse(TimelineId{2}, "1\t" + to_string(fork) + "\tno reason given\n");
  ASSERT_TRUE(history.has_value());
  writer_->set_history(*history);
  start(2, layout_.begin_of(2) + ByteCount{11 * kBlock}, kBlock, 2);
  usleep(50'000);                            // Long enough for a copy that does not wait for them.
  start(3, layout_.begin_of(1), kBlock, 3);  // Below the fork: the ancestor's file.
  for (const auto& [id, status] : run(ring_, nullptr, &*writer_, 3)) EXPECT_EQ(status, IoStatus::kOk) << id;
  const auto content = segment(2, TimelineId{2});
  ASSERT_EQ(content.size(), kMiB.value);
  EXPECT_TRUE(holds(std::span(content).first(10 * kBlock + 100), layout_.begin_of(2), 1));
  EXPECT_TRUE(is_zero(std::span(content).subspan(10 * kBlock + 100, kBlock - 100)));
  EXPECT_TRUE(holds(std::span(content).subspan(11 * kBlock, kBlock), layout_.begin_of(2) + ByteCount{11 * kBlock}, 2));
  EXPECT_TRUE(is_zero(std::span(content).subspan(12 * kBlock)));
  const auto ancestor = segment(2), before = segment(1);
  EXPECT_TRUE(holds(std::span(ancestor).first(32 * kBlock), layout_.begin_of(2), 1));
  EXPECT_TRUE(holds(std::span(before).first(kBlock), layout_.begin_of(1), 3));
}

TEST_P(Writer, LearnsWhereATimelineForkedFromItsHistoryFile) {
  make_file(directory_.path() / "00000002.history", "1\t" + to_string(layout_.begin_of(3)) + "\tno reason given\n");
  open();
  writer_->set_timeline(TimelineId{2});
  EXPECT_EQ(write(layout_.begin_of(2), kBlock), IoStatus::kOk);
  EXPECT_EQ(write(layout_.begin_of(3), kBlock), IoStatus::kOk);
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / layout_.file_name(TimelineId{1}, 2)));
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / layout_.file_name(TimelineId{2}, 3)));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / layout_.file_name(TimelineId{2}, 2)));
}

// A small file system of its own in an image file; unmounted at the end.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(const std::filesystem::path& directory, std::uint64_t bytes)
      : image_(directory / "image"), at_(directory / "mounted") {
    std::filesystem::create_directory(at_);
    make_file(image_, "");
    std::filesystem::resize_file(image_, bytes);
    const std::string make = "mkfs.ext4 -q -F -m 0 -O has_journal -b 4096 " + image_.string() + " >/dev/null 2>&1";
    mounted_ = geteuid() == 0 && std::system(make.c_str()) == 0 && mount(image_);
  }
  ~SmallFileSystem() { unmount(); }
  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return at_; }
  const std::filesystem::path& image() const { return image_; }
  bool mount(const std::filesystem::path& image) {
    return mounted_ =
               std::system(
                   ("mount -o loop,commit=300 " + image.string() + " " + at_.string() + " 2>/dev/null").c_str()) == 0;
  }
  void unmount() {
    if (mounted_ && std::system(("umount " + at_.string()).c_str()) == 0) mounted_ = false;
  }

 private:
  std::filesystem::path image_;
  std::filesystem::path at_;
  bool mounted_ = false;
};

TEST_P(Writer, SaysNoSpaceAndWritesWhenThereIsSomeAgain) {
  const TemporaryDirectory outside;
  SmallFileSystem small(outside.path(), 8u << 20);
  if (!small.mounted()) GTEST_SKIP() << "no loop mounts here";
  {
    SegmentWriter writer(ring_, small.path(), layout_, TimelineId{1}, nullptr, GetParam().direct);
    Memory memory(kBlock);
    std::uint64_t number = 1;
    IoStatus status = IoStatus::kOk;
    for (; number < 20 && status == IoStatus::kOk; ++number) {
      ASSERT_TRUE(writer.submit(1, layout_.begin_of(number), memory.span()));
      status = run(ring_, nullptr, &writer, 1)[1];
    }
    EXPECT_EQ(status, IoStatus::kNoSpace);
    EXPECT_FALSE(std::filesystem::exists(small.path() / layout_.file_name(TimelineId{1}, number - 1)));
    const auto left = [&] {
      return std::ranges::any_of(names_in(small.path()), [](const auto& name) { return name.starts_with("xlogtemp"); });
    };
    for (int i = 0; i < 1000 && left(); ++i) usleep(1000);  // The next segment, tried ahead of need.
    EXPECT_FALSE(left());
    EXPECT_EQ(remove_segments_before(small.path(), layout_, layout_.begin_of(3)), 2u);
    ASSERT_TRUE(writer.submit(1, layout_.begin_of(number - 1), memory.span()));
    EXPECT_EQ(run(ring_, nullptr, &writer, 1)[1], IoStatus::kOk);
  }
}

// The image as it is at that moment is what a power cut leaves: what the file system has not written is not in it.
TEST_P(Writer, WhatWasReportedDurableSurvivesAPowerCut) {
  const TemporaryDirectory outside;
  SmallFileSystem small(outside.path(), 16u << 20);
  if (!small.mounted()) GTEST_SKIP() << "no loop mounts here";
  {
    SegmentWriter writer(ring_, small.path(), layout_, TimelineId{1}, nullptr, GetParam().direct);
    Memory memory(3 * kBlock);
    fill(memory.span(), layout_.begin_of(2));
    ASSERT_TRUE(writer.submit(1, layout_.begin_of(2), memory.span()));
    EXPECT_EQ(run(ring_, nullptr, &writer, 1)[1], IoStatus::kOk);
    std::filesystem::copy_file(small.image(), outside.path() / "cut");
  }
  small.unmount();
  ASSERT_TRUE(small.mount(outside.path() / "cut"));
  const auto content = content_of(small.path() / layout_.file_name(TimelineId{1}, 2));
  ASSERT_EQ(content.size(), kMiB.value);
  EXPECT_TRUE(holds(std::span(content).first(3 * kBlock), layout_.begin_of(2)));
  EXPECT_TRUE(is_zero(std::span(content).subspan(3 * kBlock)));
}

}  // namespace
}  // namespace slipstream::wal::io
