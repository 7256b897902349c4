#include "app/restore.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "node/state_file.h"
#include "wal/io/files.h"
#include "wal/io/ledger_files.h"
#include "wal/segment.h"

namespace slipstream::app {
namespace {

constexpr ByteCount kMiB{1u << 20};
const wal::SegmentLayout kLayout{kMiB};
constexpr std::uint64_t kFirst = 4;

// A replica's directory: a log of whole segments from kFirst on, final to a given end.
class Archive {
 public:
  explicit Archive(TimelineId timeline = {1}) {
    char name[] = "/tmp/slipstream_restore_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::create_directory(path_ / "wal");
    EXPECT_TRUE(wal::io::make_ledger_directory(path_ / "ledger"));
    state_.role = node::State::Role::kReplica;
    state_.system = SystemId{77}, state_.segment_size = kMiB, state_.timeline = timeline, state_.page_magic = 0xD110;
    state_.log_id = LogId{{1, 2}};
    state_.log_begin = state_.scan_begin = kLayout.begin_of(kFirst);
    final_to(kLayout.begin_of(kFirst + 3));
  }
  ~Archive() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void final_to(Lsn end) {
    state_.counted_end = state_.final_end = end;
    keep_state();
  }
  void begins_at(Lsn begin) {
    state_.log_begin = state_.scan_begin = begin;
    keep_state();
  }
  std::string segment(std::uint64_t number, TimelineId timeline = {1}) {
    std::vector<std::byte> bytes(kMiB.value, static_cast<std::byte>(number));
    return put(kLayout.file_name(timeline, number), bytes);
  }
  std::string put(const std::string& name, std::span<const std::byte> bytes) {
    EXPECT_TRUE(wal::io::durable_replace(path_ / "wal" / name, bytes));
    return name;
  }
  void keep_ledger(std::uint64_t number) {
    const auto ledger = wal::io::digest_segment({{1}, number, path_ / "wal" / kLayout.file_name({1}, number)}, kLayout,
                                                wal::io::LedgerReading::kLeaveCache);
    ASSERT_TRUE(ledger && *ledger);
    ASSERT_TRUE(wal::io::keep_ledger(path_ / "ledger", kLayout, **ledger));
  }
  auto restore(const std::string& name, Lsn final_end = {}) const {
    return restore_file(path_, final_end, name, destination());
  }
  std::filesystem::path destination() const { return path_ / "RECOVERYXLOG"; }
  std::filesystem::path wal(const std::string& name) const { return path_ / "wal" / name; }

 private:
  void keep_state() { EXPECT_TRUE(wal::io::durable_replace(path_ / "state", node::encode(state_))); }

  std::filesystem::path path_;
  node::State state_;
};

void expect_given(const Archive& archive, const std::string& name, Lsn final_end = {}) {
  const auto restored = archive.restore(name, final_end);
  ASSERT_TRUE(restored.has_value()) << restored.error().message();
  EXPECT_TRUE(restored->done) << restored->why_not;
  EXPECT_EQ(*wal::io::read_file(archive.destination()), *wal::io::read_file(archive.wal(name)));
}

void expect_not_held(const Archive& archive, const std::string& name, const std::string& why) {
  const auto restored = archive.restore(name);
  ASSERT_TRUE(restored.has_value()) << restored.error().message();
  EXPECT_FALSE(restored->done);
  EXPECT_NE(restored->why_not.find(why), std::string::npos) << restored->why_not;
  EXPECT_FALSE(std::filesystem::exists(archive.destination()));
}

void expect_error(const Archive& archive, const std::string& name, ExitCode code, const std::string& what) {
  const auto restored = archive.restore(name);
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().code, code);
  EXPECT_NE(restored.error().message().find(what), std::string::npos) << restored.error().message();
  EXPECT_FALSE(std::filesystem::exists(archive.destination()));
}

TEST(Restore, GivesWholeSegmentsThatAreFinalWithOrWithoutALedger) {
  Archive archive;
  const std::string first = archive.segment(kFirst), second = archive.segment(kFirst + 1);
  archive.keep_ledger(kFirst);
  expect_given(archive, first);
  expect_given(archive, second);
}

TEST(Restore, GivesNothingThatIsNotFinal) {
  Archive archive;
  const std::string name = archive.segment(kFirst);
  archive.final_to(Lsn{kLayout.begin_of(kFirst + 1).value - 1});
  expect_not_held(archive, name, "is final");
  expect_given(archive, name, kLayout.begin_of(kFirst + 1));  // The daemon knows more than its state file says.
}

TEST(Restore, SaysWhereTheLogBeginsForWhatIsOlder) {
  Archive archive;
  const std::string name = archive.segment(kFirst);
  archive.begins_at(kLayout.begin_of(kFirst + 1));
  expect_not_held(archive, name, "the log begins at 0/500000");
  expect_not_held(archive, kLayout.file_name({1}, kFirst - 1), "the log begins at 0/500000");
}

TEST(Restore, GivesAForksSegmentOnlyAsTheNewerTimelinesFile) {
  Archive archive({2});
  const std::string history = "1\t" + to_string(kLayout.begin_of(kFirst + 1) + ByteCount{0x3000}) + "\tpromoted\n";
  archive.put(wal::history_file_name({2}), std::as_bytes(std::span(history)));
  const std::string before = archive.segment(kFirst), stale = archive.segment(kFirst + 1),
                    fork = archive.segment(kFirst + 1, {2});
  expect_given(archive, before);
  std::filesystem::remove(archive.destination());
  expect_not_held(archive, stale, fork);
  expect_not_held(archive, kLayout.file_name({2}, kFirst), before);
  expect_given(archive, fork);
  expect_given(archive, wal::history_file_name({2}));
  std::filesystem::remove(archive.destination());
  expect_not_held(archive, wal::history_file_name({3}), "no such timeline");
}

TEST(Restore, GivesNothingThatDiffersFromItsLedger) {
  Archive archive;
  const std::string name = archive.segment(kFirst);
  archive.keep_ledger(kFirst);
  std::vector<std::byte> bytes = *wal::io::read_file(archive.wal(name));
  bytes[70'000] ^= std::byte{1};
  archive.put(name, bytes);
  expect_error(archive, name, ExitCode::kDirectory, "differs from its ledger in the block [0/410000, 0/420000)");
}

TEST(Restore, TakesAFinalSegmentThatIsMissingOrTooShortForDamage) {
  Archive archive;
  expect_error(archive, kLayout.file_name({1}, kFirst), ExitCode::kDirectory, kLayout.file_name({1}, kFirst));
  const std::string name = archive.segment(kFirst);
  std::filesystem::resize_file(archive.wal(name), 8192);
  expect_error(archive, name, ExitCode::kDirectory, "has 8192 bytes instead of 1048576");
}

TEST(Restore, HoldsNeitherPartialSegmentsNorBackupHistories) {
  Archive archive;
  const std::string name = archive.segment(kFirst);
  expect_not_held(archive, name + ".partial", "partial");
  expect_not_held(archive, name + ".00000028.backup", "backup histories");
}

TEST(Restore, RefusesNamesThatPostgresqlDoesNotAskFor) {
  Archive archive;
  for (const char* name :
       {"", "state", "../state", "0000000100000000", "00000001000000000000000x", "../../etc/passwd12345678"})
    expect_error(archive, name, ExitCode::kUsage, "not a name that PostgreSQL asks");
  // 1 MiB segments have low parts of up to 0xFFF.
  expect_error(archive, "000000010000000000001000", ExitCode::kUsage, "names no segment of 1 MiB");
}

TEST(Restore, NamesADirectoryThatIsNoReplicas) {
  const auto restored = restore_file("/tmp", {}, "00000002.history", "/tmp/never");
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().code, ExitCode::kDirectory);
}

}  // namespace
}  // namespace slipstream::app
