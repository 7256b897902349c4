#include "app/replica_directory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "wal/wal_writer.h"

namespace slipstream::app {
namespace {

constexpr ByteCount kMiB{1u << 20};
constexpr SystemId kSystem{77};
const wal::SegmentLayout kLayout{kMiB};
constexpr Lsn kBegin{std::uint64_t{3} << 20};

// A replica's directory as a daemon leaves it: a log of a few segments, zeros behind it, and a state file that knows of
// everything up to `known` records before the last.
class Place {
 public:
  Place() {
    char name[] = "/tmp/slipstream_replica_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::create_directory(path_ / "wal");
    for (int i = 0; i < 90; ++i) {
      ends_.push_back(log_.record(30'000));
      begins_.push_back(log_.previous());
    }
    state_.role = node::State::Role::kReplica;
    state_.system = kSystem, state_.segment_size = kMiB, state_.timeline = TimelineId{1}, state_.page_magic = 0xD110;
    state_.log_id = LogId{{1, 2}};
    state_.log_begin = kBegin;
    knows(5);
    write();
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  // Its scan begins at the record `back` before the last.
  void knows(std::size_t back) {
    state_.scan_begin = begins_[begins_.size() - 1 - back];
    state_.scan_begin_is_record = true;
    state_.final_end = state_.counted_end = state_.scan_begin;
    EXPECT_TRUE(wal::io::durable_replace(path_ / "state", node::encode(state_)));
  }
  void write() {
    for (std::uint64_t number = kLayout.number_of(kBegin); number <= kLayout.number_of(end()) + 1; ++number) {
      std::vector<std::byte> bytes(kMiB.value);
      const Lsn from = kLayout.begin_of(number), to = std::min(end(), from + kMiB);
      if (from < to) std::ranges::copy(log_.at({from, to}), bytes.begin());
      EXPECT_TRUE(wal::io::durable_replace(segment(from), bytes));
    }
  }
  std::filesystem::path segment(Lsn at) const {
    return path_ / "wal" / kLayout.file_name(TimelineId{1}, kLayout.number_of(at));
  }
  void flip(Lsn at) {
    auto bytes = *wal::io::read_file(segment(at));
    bytes[kLayout.offset_of(at)] ^= std::byte{1};
    EXPECT_TRUE(wal::io::durable_replace(segment(at), bytes));
  }
  Lsn end() const { return ends_.back(); }
  Lsn end_before(std::size_t back) const { return ends_[ends_.size() - 1 - back]; }
  const std::filesystem::path& path() const { return path_; }

  node::State state_;

 private:
  std::filesystem::path path_;
  wal::WalWriter log_{kBegin, kMiB, kSystem};
  std::vector<Lsn> ends_, begins_;
};

void expect_damage(const Place& place, const std::vector<std::string>& parts,
                   ReplicaDirectory::Check check = ReplicaDirectory::Check::kRecent) {
  const auto opened = ReplicaDirectory::open(place.path(), check);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ExitCode::kDirectory);
  for (const std::string& part : parts)
    EXPECT_NE(opened.error().message().find(part), std::string::npos)
        << opened.error().message() << "\nlacks: " << part;
}

TEST(ReplicaDirectory, HoldsAllThatWasWrittenAlsoBeyondWhatTheStateKnows) {
  const Place place;
  const auto opened = ReplicaDirectory::open(place.path());
  ASSERT_TRUE(opened.has_value()) << opened.error().message();
  EXPECT_EQ(opened->recovered.durable_end, place.end());
  EXPECT_EQ(opened->recovered.stopped_by, wal::ScanFault::kEnd);
}

TEST(ReplicaDirectory, ATornTailBehindWhatIsKnownToBeDurableIsCutOff) {
  Place place;
  place.flip(Lsn{place.end().value - 20'000});
  const auto opened = ReplicaDirectory::open(place.path());
  ASSERT_TRUE(opened.has_value()) << opened.error().message();
  EXPECT_EQ(opened->recovered.durable_end, place.end_before(1));
  EXPECT_EQ(opened->recovered.stopped_at, place.end_before(1));
}

TEST(ReplicaDirectory, NamesDamageInTheLastRecordThatIsKnownToBeDurable) {
  Place place;
  place.knows(0);
  place.flip(Lsn{place.end().value - 20'000});
  expect_damage(place, {place.segment(place.end_before(1)).string(), "damaged at " + to_string(place.end_before(1)),
                        "record checksum", "do not promote", "init-standby"});
}

TEST(ReplicaDirectory, NamesDamageFarBelowWhereRecoveryStarts) {
  Place place;
  const Lsn at = place.end_before(60);
  place.flip(at + ByteCount{100});
  expect_damage(place, {place.segment(at).string(), "damaged at " + to_string(at)});
}

TEST(ReplicaDirectory, NamesAMissingSegmentATruncatedOneAndZeros) {
  Place place;
  const Lsn middle{std::uint64_t{4} << 20};
  std::filesystem::resize_file(place.segment(middle), 1000);
  expect_damage(place,
                {"wrong segment size", place.segment(middle).filename().string() + " has 1000 bytes", "truncated"});
  EXPECT_TRUE(wal::io::durable_replace(place.segment(middle), std::vector<std::byte>(kMiB.value)));
  expect_damage(place, {place.segment(middle).string(), "zeros where there was WAL"});
  std::filesystem::remove(place.segment(middle));
  expect_damage(place, {place.segment(middle).string(), "the segment is missing"});
  place.write();
  std::filesystem::remove(place.segment(kBegin));
  expect_damage(place, {place.segment(kBegin).string(), "the segment is missing"});
}

TEST(ReplicaDirectory, IsNotServedFromWithoutItsLastBlock) {
  Place place;
  const auto opened = ReplicaDirectory::open(place.path());
  ASSERT_TRUE(opened.has_value());
  std::vector<std::byte> ring(1 << 20);
  EXPECT_TRUE(load_last_block(*opened, ring).has_value());
  std::filesystem::remove(place.segment(opened->recovered.durable_end));
  const auto loaded = load_last_block(*opened, ring);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_NE(loaded.error().what.find("can no longer be read"), std::string::npos);
}

TEST(ReplicaDirectory, IsEmptyWhenItWasJustMade) {
  Place place;
  for (const auto& each : wal::io::list_segments(place.path() / "wal", kLayout)) std::filesystem::remove(each.path);
  place.state_.scan_begin = place.state_.final_end = place.state_.counted_end = kBegin;
  place.state_.scan_begin_is_record = false;
  ASSERT_TRUE(wal::io::durable_replace(place.path() / "state", node::encode(place.state_)));
  const auto opened = ReplicaDirectory::open(place.path());
  ASSERT_TRUE(opened.has_value()) << opened.error().message();
  EXPECT_EQ(opened->recovered.durable_end, kBegin);
}

}  // namespace
}  // namespace slipstream::app
