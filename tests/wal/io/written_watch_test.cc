#include "wal/io/written_watch.h"

#include <poll.h>

#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

static_assert(!std::is_copy_constructible_v<WrittenWatch> && !std::is_copy_assignable_v<WrittenWatch>);

bool readable(const WrittenWatch& watch) {
  pollfd one{watch.fd(), POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

class Watched : public testing::Test {
 protected:
  void SetUp() override {
    write("segment");
    auto started = WrittenWatch::start(directory.path());
    ASSERT_TRUE(started.has_value()) << started.error().message();
    watch.emplace(std::move(*started));
  }
  void write(const std::string& name) const {
    std::ofstream(directory.path() / name, std::ios::app | std::ios::binary) << "bytes";
  }

  TemporaryDirectory directory;
  std::optional<WrittenWatch> watch;
};

TEST_F(Watched, TellsOfWritesToAnyFileOnceAndIsReadableUntilThen) {
  EXPECT_FALSE(watch->take());
  EXPECT_FALSE(readable(*watch));
  write("segment");
  write("another");
  EXPECT_TRUE(readable(*watch));
  EXPECT_TRUE(watch->take());
  EXPECT_FALSE(readable(*watch));
  EXPECT_FALSE(watch->take());
  write("another");
  EXPECT_TRUE(watch->take());
}

TEST_F(Watched, ReadingRenamingAndRemovingAreNoWrites) {
  std::ifstream(directory.path() / "segment").get();
  std::filesystem::rename(directory.path() / "segment", directory.path() / "renamed");
  std::filesystem::remove(directory.path() / "renamed");
  EXPECT_FALSE(watch->take());
}

TEST_F(Watched, WritesToSubdirectoriesAreNotMeant) {
  std::filesystem::create_directory(directory.path() / "archive_status");
  write("archive_status/segment.ready");
  EXPECT_FALSE(watch->take());
}

TEST_F(Watched, TakesEverythingHoweverMuchThereIs) {
  for (int i = 0; i < 2000; ++i) write(i % 2 == 0 ? std::string(200, 'a') : std::string(200, 'b'));
  EXPECT_TRUE(watch->take());
  EXPECT_FALSE(readable(*watch));
}

TEST_F(Watched, AQueueThatOverflowedCountsAsWritten) {
  std::size_t queue = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queue;
  if (queue == 0 || queue > 100'000) GTEST_SKIP() << "the queue is too long here: " << queue;
  // Alike neighbours are joined, so two files by turns.
  std::ofstream a(directory.path() / "a"), b(directory.path() / "b");
  for (std::size_t i = 0; i < queue; ++i) (i % 2 == 0 ? a : b) << 'x' << std::flush;
  (queue % 2 == 0 ? a : b) << 'x' << std::flush;
  EXPECT_TRUE(watch->take());
  EXPECT_FALSE(readable(*watch));
  a << 'x' << std::flush;
  EXPECT_TRUE(watch->take());
}

TEST_F(Watched, GoesOnWhereItIsMovedTo) {
  WrittenWatch moved = std::move(*watch);
  watch.reset();
  write("segment");
  EXPECT_TRUE(moved.take());
}

TEST_F(Watched, WhatCannotBeWatchedIsNamed) {
  for (const std::string name : {"not there", "segment"}) {
    const auto started = WrittenWatch::start(directory.path() / name);
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().message().find(name), std::string::npos);
    EXPECT_EQ(started.error().code, ExitCode::kDirectory);
  }
}

}  // namespace
}  // namespace slipstream::wal::io
