#include "app/bench/generated_wal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "app/subprocess.h"
#include "base/digest.h"
#include "wal/io/files.h"
#include "wal/scanner.h"

namespace slipstream::app::bench {
namespace {

const wal::SegmentLayout kLayout{kSegmentSize};

class GeneratedWalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/slipstream_generated_XXXXXX";
    path_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  std::vector<std::byte> segment(std::uint64_t number) const {
    return wal::io::read_file(path_ / kLayout.file_name(TimelineId{1}, number)).value_or(std::vector<std::byte>{});
  }

  std::filesystem::path path_;
};

TEST_F(GeneratedWalTest, EveryRecordIsValidAndItsChunksAreItsBytes) {
  GeneratedWal wal(path_);
  wal::Scanner scanner(kLayout, kLogBegin, wal::Scanner::Start::kRecord, {kSystem, TimelineId{1}});
  const std::size_t sizes[] = {0, 1, 2, 257, 258, 300, 8168, 200'000, 1'300'000};
  for (std::size_t i = 0; wal.end() < kLogBegin + ByteCount{36u << 20}; ++i) {
    const Lsn before = wal.end();
    const auto range = wal.write(sizes[i % std::size(sizes)]);
    ASSERT_TRUE(range) << range.error().message();
    ASSERT_EQ(range->begin, before);
    ASSERT_EQ(range->end, wal.end());
    Lsn at = before;
    for (const node::UpstreamChunk& chunk : wal.chunks()) {
      ASSERT_EQ(chunk.range.begin, at);
      ASSERT_LE(chunk.range.size(), ByteCount{128u << 10});
      ASSERT_EQ(chunk.range.begin.value >> 20, (chunk.range.end.value - 1) >> 20);
      at = chunk.range.end;
      const auto file = segment(kLayout.number_of(chunk.range.begin));
      const auto bytes = std::span(file).subspan(kLayout.offset_of(chunk.range.begin), chunk.range.size().value);
      ASSERT_EQ(chunk.digest, xxh3_64(bytes));
      scanner.on_bytes(bytes);
    }
    ASSERT_EQ(at, range->end);
    ASSERT_EQ(scanner.valid_end(), range->end) << wal::to_string(scanner.fault());
  }
}

TEST_F(GeneratedWalTest, PostgresReadsIt) {
  GeneratedWal wal(path_);
  for (const std::size_t bytes : {2, 100, 257, 258, 5000, 8168, 40'000}) ASSERT_TRUE(wal.write(bytes));
  const auto read = run_program({postgres_program("pg_waldump", 150000), "--quiet", "--path", path_.string(), "--start",
                                 to_string(kLogBegin), "--end", to_string(wal.end())},
                                "", ExitCode::kInternal);
  EXPECT_TRUE(read) << read.error().message();
}

TEST_F(GeneratedWalTest, RemovesOnlyWholeSegmentsBefore) {
  GeneratedWal wal(path_);
  while (wal.end() < kLogBegin + ByteCount{40u << 20}) ASSERT_TRUE(wal.write(1u << 20));
  wal.remove_before(kLogBegin + ByteCount{17u << 20});
  EXPECT_TRUE(segment(1).empty());
  EXPECT_FALSE(segment(2).empty());
}

TEST_F(GeneratedWalTest, ADirectoryThatCannotBeWrittenToIsNamed) {
  GeneratedWal wal(path_ / "missing");
  const auto written = wal.write(100);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ExitCode::kStorage);
  EXPECT_NE(written.error().message().find("missing"), std::string::npos);
}

}  // namespace
}  // namespace slipstream::app::bench
