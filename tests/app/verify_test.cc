#include "app/verify.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "node/state_file.h"
#include "wal/io/files.h"
#include "wal/io/ledger_files.h"
#include "wal/wal_writer.h"

namespace slipstream::app {
namespace {

namespace fs = std::filesystem;

constexpr ByteCount kMiB{1u << 20};
const wal::SegmentLayout kLayout{kMiB};
constexpr std::uint64_t kFirst = 4, kSegments = 4;
const Lsn kBegin = kLayout.begin_of(kFirst), kEnd = kLayout.begin_of(kFirst + kSegments);

// Valid WAL from kBegin on; it ends inside the last segment.
const std::vector<std::byte>& wal_bytes() {
  static const std::vector<std::byte> all = [] {
    wal::WalWriter writer(kBegin, kMiB, SystemId{77});
    std::uint8_t fill = 0;
    while (writer.end() + ByteCount{100'000} < kEnd) writer.record(3000, ++fill);
    const auto written = writer.at({kBegin, writer.end()});
    return std::vector<std::byte>(written.begin(), written.end());
  }();
  return all;
}
Lsn wal_end() { return kBegin + ByteCount{wal_bytes().size()}; }

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/slipstream_verify_XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Directory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // Whole files; behind the WAL is what `stale` says.
  void put_segments(const fs::path& where, std::byte stale = std::byte{0}) const {
    fs::create_directories(where);
    std::vector<std::byte> all = wal_bytes();
    all.resize((kEnd - kBegin).value, stale);
    for (std::uint64_t i = 0; i < kSegments; ++i)
      EXPECT_TRUE(
          wal::io::durable_replace(segment(where, kFirst + i), std::span(all).subspan(i * kMiB.value, kMiB.value)));
  }
  static fs::path segment(const fs::path& where, std::uint64_t number) {
    return where / kLayout.file_name(TimelineId{1}, number);
  }
  // Of all segments but the last, as the files are now.
  void put_ledgers(const fs::path& wal, const fs::path& where) const {
    EXPECT_TRUE(wal::io::make_ledger_directory(where));
    for (std::uint64_t number = kFirst; number + 1 < kFirst + kSegments; ++number) {
      const auto ledger =
          wal::io::digest_segment({{1}, number, segment(wal, number)}, kLayout, wal::io::LedgerReading::kLeaveCache);
      ASSERT_TRUE(ledger && *ledger);
      ASSERT_TRUE(wal::io::keep_ledger(where, kLayout, **ledger));
    }
  }
  void put_replica(SystemId system = SystemId{77}) const {
    put_segments(path / "wal");
    put_ledgers(path / "wal", path / "ledger");
    node::State state;
    state.role = node::State::Role::kReplica;
    state.system = system, state.segment_size = kMiB, state.timeline = TimelineId{1}, state.page_magic = 0xD110;
    state.log_id = LogId{{1, 2}};
    state.log_begin = state.scan_begin = kBegin;
    state.counted_end = state.final_end = wal_end();
    EXPECT_TRUE(wal::io::durable_replace(path / "state", node::encode(state)));
  }
  void flip(const fs::path& file, std::uint64_t offset) const {
    auto bytes = wal::io::read_file(file);
    ASSERT_TRUE(bytes);
    (*bytes)[offset] ^= std::byte{1};
    ASSERT_TRUE(wal::io::durable_replace(file, *bytes));
  }

  fs::path path;
};

std::expected<Verification, Error> compare(const fs::path& left, const fs::path& right, bool bytes = false) {
  auto a = LogCopy::open(left), b = LogCopy::open(right);
  if (!a) return std::unexpected(a.error());
  if (!b) return std::unexpected(b.error());
  return verify(*a, *b, {bytes, {}});
}

struct Verify : testing::Test {
  Directory a, b;
};

TEST_F(Verify, FindsEqualReplicasEqualByTheirLedgers) {
  a.put_replica(), b.put_replica();
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_FALSE(done->difference);
  EXPECT_EQ(done->compared, (LsnRange{kBegin, wal_end()}));
  EXPECT_EQ(done->segments, kSegments);
  EXPECT_EQ(done->by_ledger, kSegments - 1);
  EXPECT_EQ(compare(a.path, b.path, true)->by_ledger, 0u);
}

TEST_F(Verify, NamesTheFirstByteThatDiffers) {
  a.put_replica(), b.put_segments(b.path);
  b.flip(Directory::segment(b.path, kFirst + 2), 777), b.flip(Directory::segment(b.path, kFirst + 1), 70'000);
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done) << done.error().message();
  ASSERT_TRUE(done->difference);
  EXPECT_EQ(done->difference->kind, Difference::Kind::kBytes);
  EXPECT_EQ(done->difference->at, kLayout.begin_of(kFirst + 1) + ByteCount{70'000});
  EXPECT_EQ(done->difference->left[0] ^ std::byte{1}, done->difference->right[0]);
  EXPECT_EQ(done->difference->left_file, Directory::segment(a.path / "wal", kFirst + 1));
  EXPECT_EQ(done->compared.end, done->difference->at);
}

TEST_F(Verify, SeesDamageThatLedgersDoNotKnowOnlyByTheBytes) {
  a.put_replica(), b.put_replica();
  b.flip(Directory::segment(b.path / "wal", kFirst), 123);
  EXPECT_FALSE(compare(a.path, b.path)->difference);
  const auto done = compare(a.path, b.path, true);
  ASSERT_TRUE(done->difference);
  EXPECT_EQ(done->difference->at, kBegin + ByteCount{123});
}

TEST_F(Verify, ComparesWithLedgersThatCameFromAnotherHost) {
  a.put_replica(), b.put_segments(b.path / "wal"), b.put_ledgers(b.path / "wal", b.path / "copied");
  const auto equal = compare(b.path / "copied", a.path);
  ASSERT_TRUE(equal) << equal.error().message();
  EXPECT_FALSE(equal->difference);
  EXPECT_EQ(equal->by_ledger, kSegments - 1);

  b.flip(Directory::segment(b.path / "wal", kFirst + 1), 200'000);
  b.put_ledgers(b.path / "wal", b.path / "copied");
  const auto differs = compare(b.path / "copied", a.path);
  ASSERT_TRUE(differs->difference);
  EXPECT_EQ(differs->difference->kind, Difference::Kind::kBlock);
  EXPECT_EQ(differs->difference->at, kLayout.begin_of(kFirst + 1) + ByteCount{196'608});

  fs::remove_all(a.path / "ledger");  // Against the bytes alone.
  EXPECT_EQ(compare(a.path, b.path / "copied")->difference->at, differs->difference->at);
}

TEST_F(Verify, FindsLedgersOfEarlierTimelinesWithoutTheirHistory) {
  a.put_replica(), b.put_ledgers(a.path / "wal", b.path / "copied");
  const auto ledger = wal::io::load_ledger(b.path / "copied", kLayout, TimelineId{1}, kFirst + 2);
  ASSERT_TRUE(ledger);
  wal::Ledger later = *ledger;
  later.timeline = TimelineId{2};
  ASSERT_TRUE(wal::io::keep_ledger(b.path / "copied", kLayout, later));
  const auto done = compare(b.path / "copied", a.path);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_FALSE(done->difference);
  EXPECT_EQ(done->segments, kSegments - 1);
  EXPECT_EQ(done->by_ledger, kSegments - 2);  // The fork's is compared with the bytes.
}

TEST_F(Verify, SaysWhenOnlyTheLedgersDiffer) {
  a.put_replica(), b.put_replica();
  const fs::path segment = Directory::segment(b.path / "wal", kFirst);
  b.flip(segment, 5);
  b.put_ledgers(b.path / "wal", b.path / "ledger");
  b.flip(segment, 5);
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done->difference);
  EXPECT_EQ(done->difference->kind, Difference::Kind::kLedgers);
  EXPECT_EQ(done->difference->at, kBegin);
}

TEST_F(Verify, TakesWhatLiesBehindTheEndOfBareSegmentsForNoWal) {
  a.put_segments(a.path), b.put_segments(b.path, std::byte{0x5a});
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_FALSE(done->difference);
  EXPECT_EQ(done->ends_early, a.path.string());
  EXPECT_EQ(done->compared, (LsnRange{kBegin, wal_end()}));
}

TEST_F(Verify, TakesDamageInTheMiddleOfBareSegmentsForADifference) {
  a.put_segments(a.path), b.put_segments(b.path);
  b.flip(Directory::segment(b.path, kFirst), 500'000);
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done->difference);
  EXPECT_EQ(done->difference->at, kBegin + ByteCount{500'000});
}

TEST_F(Verify, NamesAHole) {
  a.put_replica(), b.put_replica();
  fs::remove(Directory::segment(b.path / "wal", kFirst + 1));
  const auto done = compare(a.path, b.path, true);
  ASSERT_TRUE(done->difference);
  EXPECT_EQ(done->difference->kind, Difference::Kind::kMissing);
  EXPECT_EQ(done->difference->missing_in, b.path.string());
  EXPECT_EQ(done->difference->at, kLayout.begin_of(kFirst + 1));
}

TEST_F(Verify, ComparesOnlyWhatBothHave) {
  a.put_replica(), b.put_segments(b.path);
  fs::remove(Directory::segment(b.path, kFirst)), fs::remove(Directory::segment(b.path, kFirst + kSegments - 1));
  const auto done = compare(a.path, b.path);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_FALSE(done->difference);
  EXPECT_EQ(done->compared, (LsnRange{kLayout.begin_of(kFirst + 1), kLayout.begin_of(kFirst + kSegments - 1)}));
}

TEST_F(Verify, RefusesWhatCannotBeCompared) {
  a.put_replica();
  const auto nothing = compare(a.path, b.path);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, ExitCode::kDirectory);
  EXPECT_NE(nothing.error().message().find("neither segments nor ledgers"), std::string::npos);
  EXPECT_FALSE(compare(a.path, b.path / "nowhere"));

  b.put_replica(SystemId{78});
  const auto other = compare(a.path, b.path);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message().find("two clusters"), std::string::npos);

  Directory c;
  c.put_segments(c.path);
  for (std::uint64_t i = 1; i < kSegments; ++i) fs::remove(Directory::segment(c.path, kFirst + i));
  fs::rename(Directory::segment(c.path, kFirst), Directory::segment(c.path, kFirst + 40));
  const auto apart = compare(a.path, c.path);
  ASSERT_FALSE(apart);
  EXPECT_NE(apart.error().message().find("nothing in common"), std::string::npos);
}

TEST_F(Verify, RefusesADamagedLedger) {
  a.put_replica(), b.put_replica();
  b.flip(Directory::segment(b.path / "ledger", kFirst), 100);
  const auto done = compare(a.path, b.path);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ExitCode::kDirectory);
}

}  // namespace
}  // namespace slipstream::app
