#include "app/archive.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wal/io/files.h"
#include "wal/wal_writer.h"

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;
const wal::SegmentLayout kLayout{ByteCount{1u << 20}};
constexpr TimelineId kTimeline{1};
constexpr SystemId kSystem{77};

class Place {
 public:
  Place() {
    char name[] = "/tmp/slipstream_archive_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::create_directory(path_ / "archive");
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  // Under the name of that segment: itself, or another one's bytes.
  void archived(std::uint64_t number, std::optional<std::uint64_t> content = {}) {
    put(number, bytes_of(content.value_or(number)));
  }
  void put(std::uint64_t number, std::span<const std::byte> bytes) const {
    EXPECT_TRUE(wal::io::durable_replace(path_ / "archive" / kLayout.file_name(kTimeline, number), bytes));
  }
  std::span<const std::byte> bytes_of(std::uint64_t number) {
    while (wal_.end() < kLayout.begin_of(number + 1)) wal_.record(3000);
    return wal_.at({kLayout.begin_of(number), kLayout.begin_of(number + 1)});
  }
  ArchiveOptions options(const std::string& command = "") const {
    return {command.empty() ? "cp " + path_.string() + "/archive/%f %p" : command, restored(), kLayout, kSystem, [] {}};
  }
  std::filesystem::path restored() const { return path_ / "restored"; }
  bool has(std::uint64_t number) const {
    return std::filesystem::exists(restored() / kLayout.file_name(kTimeline, number));
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  wal::WalWriter wal_{kLayout.begin_of(4), kLayout.segment_size(), kSystem};
};

Archive::Answer settled(Archive& archive, std::uint64_t number) {
  auto answer = archive.ask(kTimeline, number);
  for (int i = 0; i < 2000 && answer == Archive::Answer::kFetching; ++i) {
    std::this_thread::sleep_for(5ms);
    answer = archive.ask(kTimeline, number);
  }
  return answer;
}

TEST(Archive, BringsASegmentAndTheNextOneAhead) {
  Place place;
  place.archived(4), place.archived(5);
  Archive archive(place.options());
  EXPECT_EQ(archive.ask(kTimeline, 4), Archive::Answer::kFetching);
  EXPECT_EQ(settled(archive, 4), Archive::Answer::kThere);
  EXPECT_EQ(*wal::io::read_file(place.restored() / kLayout.file_name(kTimeline, 4)),
            std::vector<std::byte>(place.bytes_of(4).begin(), place.bytes_of(4).end()));
  EXPECT_EQ(settled(archive, 5), Archive::Answer::kThere);
  EXPECT_TRUE(place.has(5));
}

TEST(Archive, SaysWhatIsNotThereAndAsksForItLater) {
  Place place;
  Archive archive(place.options());
  EXPECT_EQ(settled(archive, 7), Archive::Answer::kNotThere);
  place.archived(7);
  EXPECT_EQ(archive.ask(kTimeline, 7), Archive::Answer::kNotThere);  // Not yet.
}

TEST(Archive, TakesNothingThatIsNotTheSegmentItself) {
  Place place;
  place.put(4, place.bytes_of(4).first(5000));
  place.archived(5, 6);
  std::vector<std::byte> damaged(place.bytes_of(6).begin(), place.bytes_of(6).end());
  damaged[500'000] ^= std::byte{1};
  place.put(6, damaged);
  Archive archive(place.options());
  for (const std::uint64_t number : {4, 5, 6}) {
    EXPECT_EQ(settled(archive, number), Archive::Answer::kNotThere);
    EXPECT_FALSE(place.has(number));
  }
}

TEST(Archive, BelievesNoCommandThatBroughtNothing) {
  Place place;
  Archive archive(place.options("true"));
  EXPECT_EQ(settled(archive, 4), Archive::Answer::kNotThere);
}

TEST(Archive, KeepsFewFiles) {
  Place place;
  for (std::uint64_t number = 4; number < 16; ++number) place.archived(number);
  Archive archive(place.options());
  for (std::uint64_t number = 4; number < 16; ++number) EXPECT_EQ(settled(archive, number), Archive::Answer::kThere);
  EXPECT_FALSE(place.has(4));
  EXPECT_TRUE(place.has(15));
  EXPECT_EQ(settled(archive, 4), Archive::Answer::kThere);  // Fetched again.
  EXPECT_TRUE(place.has(4));
}

// What is fetched ahead without bound pushes out what a slow reader has not come to.
TEST(Archive, GoesNoFurtherAheadThanTwoSegments) {
  Place place;
  for (std::uint64_t number = 4; number < 16; ++number) place.archived(number);
  Archive archive(place.options());
  EXPECT_EQ(settled(archive, 4), Archive::Answer::kThere);
  for (int i = 0; i < 2000 && !place.has(6); ++i) std::this_thread::sleep_for(5ms);
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(place.has(4) && place.has(5) && place.has(6));
  EXPECT_FALSE(place.has(7));
  EXPECT_EQ(settled(archive, 7), Archive::Answer::kThere);
  EXPECT_TRUE(place.has(4));
}

TEST(Archive, LeavesPercentSignsAndOtherLettersAlone) {
  Place place;
  Archive archive(place.options("echo '%% %x %f' > " + place.path().string() + "/said; exit 1"));
  EXPECT_EQ(settled(archive, 4), Archive::Answer::kNotThere);
  std::string said;
  std::getline(std::ifstream(place.path() / "said"), said);
  EXPECT_EQ(said, "% %x " + kLayout.file_name(kTimeline, 4));
}

TEST(Archive, EndsACommandThatHangsWithAllThatItStarted) {
  Place place;
  const std::string pid = place.path().string() + "/pid";
  {
    Archive archive(place.options("sleep 100 & echo $! > " + pid + "; wait"));
    (void)archive.ask(kTimeline, 4);
    for (int i = 0; i < 2000 && !std::filesystem::exists(pid); ++i) std::this_thread::sleep_for(5ms);
    std::this_thread::sleep_for(20ms);
  }
  pid_t sleeping = 0;
  std::ifstream(pid) >> sleeping;
  ASSERT_GT(sleeping, 0);
  const auto ended = [&] {
    std::string state;
    std::ifstream stat("/proc/" + std::to_string(sleeping) + "/stat");
    for (int i = 0; i < 3; ++i) stat >> state;
    return state.empty() || state == "Z";
  };
  for (int i = 0; i < 1000 && !ended(); ++i) std::this_thread::sleep_for(5ms);
  EXPECT_TRUE(ended());
  EXPECT_FALSE(std::filesystem::exists(place.restored()));
}

}  // namespace
}  // namespace slipstream::app
