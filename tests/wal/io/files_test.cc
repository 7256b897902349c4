#include "wal/io/files.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/digest.h"
#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

const SegmentLayout kLayout{kMiB};

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(DurableReplace, ReplacesAFileWholeAndLeavesNothingElse) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "state";
  ASSERT_TRUE(durable_replace(path, bytes_of("a long first content")));
  ASSERT_TRUE(durable_replace(path, bytes_of("second")));
  const auto read = read_file(path);
  ASSERT_TRUE(read.has_value());
  EXPECT_TRUE(std::ranges::equal(*read, bytes_of("second")));
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"state"});
}

TEST(DurableReplace, KeepsTheOldFileAndSaysWhyWhenItCannotWriteTheNew) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "state";
  ASSERT_TRUE(durable_replace(path, bytes_of("first")));
  std::filesystem::permissions(directory.path(), std::filesystem::perms{0555});
  std::filesystem::permissions(path, std::filesystem::perms{0644});
  {
    const AsNobody nobody;
    const auto replaced = durable_replace(path, bytes_of("second"));
    ASSERT_FALSE(replaced.has_value());
    EXPECT_EQ(replaced.error().code, ExitCode::kStorage);
    EXPECT_NE(replaced.error().what.find("Permission denied"), std::string::npos) << replaced.error().message();
  }
  EXPECT_TRUE(std::ranges::equal(*read_file(path), bytes_of("first")));
  const auto missing = durable_replace(directory.path() / "not there" / "state", bytes_of("x"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().what.find("No such file"), std::string::npos) << missing.error().message();
}

TEST(DurableReplaceIfRoom, SaysThatItWasDoneAndTakesNoOtherFailureForAFullDisk) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "state";
  const auto kept = durable_replace_if_room(path, bytes_of("content"));
  ASSERT_TRUE(kept.has_value());
  EXPECT_TRUE(*kept);
  EXPECT_TRUE(std::ranges::equal(*read_file(path), bytes_of("content")));
  const auto missing = durable_replace_if_room(directory.path() / "not there" / "state", bytes_of("x"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ExitCode::kStorage);
}

TEST(ReadFile, NamesTheFileThatIsNotThere) {
  const auto read = read_file("/var/tmp/slipstream-is-not-here");
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().where, "/var/tmp/slipstream-is-not-here");
  EXPECT_FALSE(read.error().remedy.empty());
}

TEST(DirectoryLock, RefusesASecondDaemonByThePidOfTheFirstAndEndsWithItsProcess) {
  const TemporaryDirectory directory;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // Also when the test ends early.
    const auto lock = DirectoryLock::acquire(directory.path());
    const bool told = ::write(ready[1], lock ? "y" : "n", 1) == 1;
    if (told) pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  const auto refused = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ExitCode::kDirectory);
  EXPECT_NE(refused.error().what.find("pid " + std::to_string(child) + ")"), std::string::npos)
      << refused.error().message();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(DirectoryLock::acquire(directory.path()).has_value());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(DirectoryLock, SaysThatADirectoryIsMissing) {
  const auto refused = DirectoryLock::acquire("/var/tmp/slipstream-is-not-here");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().what.find("No such file"), std::string::npos) << refused.error().message();
}

struct Refusal {
  const char* name;
  std::function<void(const std::filesystem::path&)> prepare;
  std::string what;
  bool replica_too;  // Refused for a replica's own log, too.
};

TEST(CheckWalDirectory, RefusesWhatIsNoWalDirectoryAndSaysWhatToDo) {
  const Refusal refusals[] = {
      {"missing", [](const auto& path) { std::filesystem::remove(path); }, "no WAL directory", true},
      {"file", [](const auto& path) { std::filesystem::remove(path), make_file(path, "x"); }, "not a directory", true},
      {"empty", [](const auto& path) { std::filesystem::permissions(path, std::filesystem::perms::all); },
       "no WAL segments", false},
      {"unreadable", [](const auto& path) { std::filesystem::permissions(path, std::filesystem::perms::none); },
       "not readable for this user", true},
      {"size", [](const auto& path) { make_segment(path, SegmentLayout(ByteCount{2u << 20}), 1); },
       "wrong segment size: 000000010000000000000001 has 2097152", true},
      {"name",
       [](const auto& path) {
         make_segment(path, SegmentLayout(kMiB), 0x1f0);
         std::filesystem::rename(path / "0000000100000000000001F0", path / "000000010000000000001FFF");
       },
       "wrong segment size", true},
  };
  for (const Refusal& refusal : refusals) {
    const TemporaryDirectory outside;
    const auto path = outside.path() / "pg_wal";
    std::filesystem::create_directory(path);
    refusal.prepare(path);
    const AsNobody nobody;
    const auto checked = check_wal_directory(path, kLayout);
    ASSERT_FALSE(checked.has_value()) << refusal.name;
    EXPECT_EQ(checked.error().code, ExitCode::kDirectory);
    EXPECT_NE(checked.error().what.find(refusal.what), std::string::npos) << checked.error().message();
    EXPECT_TRUE(!checked.error().remedy.empty() && !checked.error().where.empty()) << refusal.name;
    EXPECT_EQ(check_replica_directory(path, kLayout).has_value(), !refusal.replica_too) << refusal.name;
  }
}

TEST(CheckWalDirectory, AcceptsAServersDirectoryWithItsOtherFiles) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1);
  make_file(directory.path() / "00000002.history", "1\t0/300000\tx\n");
  make_file(directory.path() / "000000010000000000000002.partial", "x");
  std::filesystem::create_directory(directory.path() / "archive_status");
  const auto checked = check_wal_directory(directory.path(), kLayout);
  EXPECT_TRUE(checked.has_value()) << checked.error().message();
}

TEST(CheckReplicaDirectory, AcceptsAnEmptyOneAndRefusesOneThatItMayNotWrite) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(check_replica_directory(directory.path(), kLayout).has_value());
  std::filesystem::permissions(directory.path(), std::filesystem::perms{0555});
  const AsNobody nobody;
  const auto checked = check_replica_directory(directory.path(), kLayout);
  ASSERT_FALSE(checked.has_value());
  EXPECT_NE(checked.error().what.find("not writable"), std::string::npos) << checked.error().message();
}

TEST(Segments, AreListedInOrderAndRemovedOnlyBelowWhatIsKept) {
  const TemporaryDirectory directory;
  for (const std::uint64_t number : {4u, 2u, 3u}) make_segment(directory.path(), kLayout, number);
  make_segment(directory.path(), kLayout, 3, TimelineId{2});
  make_file(directory.path() / "00000002.history", "x");
  const auto files = list_segments(directory.path(), kLayout);
  ASSERT_EQ(files.size(), 4u);
  EXPECT_TRUE(files[0].number == 2 && files[1].number == 3 && files[2].number == 3 && files[3].number == 4);
  EXPECT_TRUE(files[1].timeline == TimelineId{1} && files[2].timeline == TimelineId{2});
  EXPECT_EQ(remove_segments_before(directory.path(), kLayout, Lsn{kLayout.begin_of(3).value - 1}), 0u);
  EXPECT_EQ(remove_segments_before(directory.path(), kLayout, kLayout.begin_of(4)), 3u);
  EXPECT_EQ(names_in(directory.path()),
            (std::vector<std::string>{kLayout.file_name(TimelineId{1}, 4), "00000002.history"}));
}

TEST(Segments, AreMadeDurableFromOneOnOrTheFirstThatCannotBeIsNamed) {
  const TemporaryDirectory directory;
  for (const std::uint64_t number : {2u, 3u}) make_segment(directory.path(), kLayout, number);
  EXPECT_TRUE(sync_segments_from(directory.path(), kLayout, kLayout.begin_of(2)).has_value());
  std::filesystem::permissions(directory.path() / kLayout.file_name(TimelineId{1}, 2), std::filesystem::perms::none);
  const AsNobody nobody;
  EXPECT_NE(sync_segments_from(directory.path(), kLayout, kLayout.begin_of(2))
                .error()
                .where.find(kLayout.file_name(TimelineId{1}, 2)),
            std::string::npos);
}

TEST(FileSegmentSource, ReadsWithinASegmentAndFindsNothingWhereThereIsNone) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1);
  FileSegmentSource source(directory.path(), kLayout);
  std::vector<std::byte> out(10'000);
  const Lsn at{kLayout.begin_of(2).value - 4000};
  ASSERT_EQ(source.read(at, out), 4000u);
  EXPECT_TRUE(holds(std::span(out).first(4000), at));
  EXPECT_EQ(source.read(kLayout.begin_of(2), out), 0u);
  make_segment(directory.path(), kLayout, 2);
  EXPECT_EQ(source.read(kLayout.begin_of(2), out), out.size());
}

TEST(FileSegmentSource, TakesTheNewestTimelineOrTheOneThatTheHistorySays) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1, TimelineId{1}, 1);
  make_segment(directory.path(), kLayout, 1, TimelineId{2}, 2);
  std::vector<std::byte> out(100);
  FileSegmentSource newest(directory.path(), kLayout), first(directory.path(), kLayout, TimelineHistory(TimelineId{1}));
  ASSERT_EQ(newest.read(kLayout.begin_of(1), out), 100u);
  EXPECT_TRUE(holds(out, kLayout.begin_of(1), 2));
  ASSERT_EQ(first.read(kLayout.begin_of(1), out), 100u);
  EXPECT_TRUE(holds(out, kLayout.begin_of(1), 1));
}

TEST(FileSegmentSource, TakesTheAncestorsFileWhileNothingWasWrittenBehindTheFork) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1, TimelineId{1}, 1);
  make_segment(directory.path(), kLayout, 2, TimelineId{1}, 1);
  const auto history = TimelineHistory::parse(TimelineId{2}, "1\t0/180000\tinside segment 1\n");
  ASSERT_TRUE(history.has_value());
  std::vector<std::byte> out(100);
  FileSegmentSource source(directory.path(), kLayout, *history);
  ASSERT_EQ(source.read(kLayout.begin_of(1), out), 100u);
  EXPECT_TRUE(holds(out, kLayout.begin_of(1), 1));
  EXPECT_EQ(source.read(kLayout.begin_of(2), out), 0u) << "wholly behind the fork: not the ancestor's";
  make_segment(directory.path(), kLayout, 1, TimelineId{2}, 2);
  FileSegmentSource again(directory.path(), kLayout, *history);
  ASSERT_EQ(again.read(kLayout.begin_of(1), out), 100u);
  EXPECT_TRUE(holds(out, kLayout.begin_of(1), 2));
}

TEST(FileSegmentSource, DoesNotReadASegmentThatWasRecycled) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1);
  FileSegmentSource source(directory.path(), kLayout);
  std::vector<std::byte> out(100);
  ASSERT_EQ(source.read(kLayout.begin_of(1), out), 100u);
  std::filesystem::rename(directory.path() / kLayout.file_name(TimelineId{1}, 1),
                          directory.path() / kLayout.file_name(TimelineId{1}, 9));
  EXPECT_EQ(source.read(kLayout.begin_of(1), out), 0u);
}

// A directory under a segment's name can be opened and not read, as a file on a failing disk.
TEST(FileSegmentSource, TellsWhatCannotBeReadFromWhatIsNotThere) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1);
  const std::string name = kLayout.file_name(TimelineId{1}, 2);
  std::filesystem::create_directory(directory.path() / name);
  FileSegmentSource source(directory.path(), kLayout, TimelineHistory(TimelineId{1}));
  std::vector<std::byte> out(100);
  EXPECT_EQ(source.read(kLayout.begin_of(2), out), 0u);
  ASSERT_TRUE(source.problem());
  EXPECT_NE(source.problem()->message().find(name + ": it cannot be read at 0/200000: Is a directory"),
            std::string::npos)
      << source.problem()->message();
  EXPECT_EQ(source.read(kLayout.begin_of(3), out), 0u);
  EXPECT_FALSE(source.problem());
  EXPECT_EQ(source.read(kLayout.begin_of(1), out), 100u);
  EXPECT_FALSE(source.problem());
}

TEST(DigestBlocks, CoverTheRangeBlockByBlockAndStopWhereBytesAreMissing) {
  const TemporaryDirectory directory;
  make_segment(directory.path(), kLayout, 1);
  FileSegmentSource source(directory.path(), kLayout);
  const LsnRange range{kLayout.begin_of(1) + ByteCount{kMiB.value - 3 * kBlockBytes + 1000},
                       kLayout.begin_of(2) + ByteCount{5}};
  const auto blocks = digest_blocks(source, kLayout, range);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0].range, (LsnRange{range.begin, align_up(range.begin, kBlockBytes)}));
  EXPECT_EQ(blocks[2].range, (LsnRange{Lsn{kLayout.begin_of(2).value - kBlockBytes}, kLayout.begin_of(2)}));
  std::vector<std::byte> expected(kBlockBytes);
  fill(expected, blocks[1].range.begin);
  EXPECT_EQ(blocks[1].digest, xxh3_128(expected));
  std::vector<std::byte> clipped(blocks[0].range.size().value);
  fill(clipped, range.begin);
  EXPECT_EQ(blocks[0].digest, xxh3_128(clipped));
}

}  // namespace
}  // namespace slipstream::wal::io
