#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/replica_directory.h"
#include "node/log_cut.h"
#include "wal/io/ledger_files.h"
#include "wal/io/log_tail.h"
#include "wal/wal_writer.h"

// Opening a replica's directory whose state says that its log is to be cut, also after a crash in that.
namespace slipstream::app {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

constexpr ByteCount kMiB{1u << 20};
constexpr SystemId kSystem{77};
const wal::SegmentLayout kLayout{kMiB};
const wal::TimelineHistory kHistory{TimelineId{1}};
constexpr Lsn kBegin{std::uint64_t{3} << 20};

// A log of three segments and a bit, one of zeros behind it, ledgers of the whole ones; final to the middle of the
// second.
class CutLog : public testing::Test {
 protected:
  CutLog() {
    char name[] = "/tmp/slipstream_cut_XXXXXX";
    path = ::mkdtemp(name);
    fs::create_directory(path / "wal");
    for (int i = 0; i < 110; ++i) {
      ends.push_back(log.record(30'000));
      begins.push_back(log.previous());
    }
    for (std::uint64_t number = 3; number <= kLayout.number_of(ends.back()) + 1; ++number) {
      Bytes bytes(kMiB.value);
      const Lsn from = kLayout.begin_of(number), to = std::min(ends.back(), from + kMiB);
      if (from < to) std::ranges::copy(log.at({from, to}), bytes.begin());
      EXPECT_TRUE(wal::io::durable_replace(segment(number), bytes));
    }
    EXPECT_TRUE(wal::io::make_ledger_directory(path / "ledger"));
    for (std::uint64_t number = 3; number <= 5; ++number) {
      const auto ledger = wal::io::digest_segment({TimelineId{1}, number, segment(number)}, kLayout,
                                                  wal::io::LedgerReading::kLeaveCache);
      EXPECT_TRUE(wal::io::keep_ledger(path / "ledger", kLayout, **ledger));
    }
    state.role = node::State::Role::kReplica;
    state.system = kSystem, state.segment_size = kMiB, state.timeline = TimelineId{1}, state.page_magic = 0xD110;
    state.log_id = LogId{{1, 2}};
    state.log_begin = kBegin;
    state.scan_begin = begins[105], state.scan_begin_is_record = true;
    state.final_end = ends[49], state.counted_end = ends[80], state.held_epoch = {1, 7};
    state.epoch_map = {{{1, 2}, kBegin, TimelineId{1}, {}},
                       {{1, 3}, ends[59], TimelineId{1}, {}},
                       {{1, 4}, ends[60], TimelineId{1}, {}}};
    cut_from(ends[59]);
  }
  ~CutLog() override {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }

  fs::path segment(std::uint64_t number) const { return path / "wal" / kLayout.file_name(TimelineId{1}, number); }
  fs::path aside(Lsn at) const {
    char name[40];
    std::snprintf(name, sizeof name, "%016lX-%016lX", at.value, ends.back().value);
    return path / "aside" / name;
  }
  void keep(const node::State& wanted) { EXPECT_TRUE(wal::io::durable_replace(path / "state", node::encode(wanted))); }
  void cut_from(Lsn from) {
    state.replacement = {from, ends.back()};
    keep(state);
  }
  node::State kept_state() const { return *ReplicaDirectory::state_of(path); }
  std::size_t count_in(const char* directory) const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path / directory), {}));
  }

  // All of what opening it must have come to, with the log cut at `at`.
  void expect_cut(Lsn at) {
    const auto opened = ReplicaDirectory::open(path);
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    EXPECT_EQ(opened->recovered.durable_end, at);
    EXPECT_EQ(opened->recovered.stopped_by, wal::ScanFault::kEnd);
    const node::State after = kept_state();
    EXPECT_EQ(after, opened->state);
    EXPECT_FALSE(after.replacement.has_value());
    EXPECT_LE(after.counted_end, at);
    EXPECT_LE(after.scan_begin, at);
    EXPECT_EQ(after.held_epoch, (Epoch{1, 7}));
    for (const auto& entry : after.epoch_map) EXPECT_LE(entry.begin, at);
    EXPECT_EQ(Bytes(*wal::io::read_file(aside(at))), bytes_of({at, ends.back()}));
    EXPECT_EQ(count_in("aside"), 1u);
    for (const auto& each : wal::io::list_segments(path / "wal", kLayout)) {
      Bytes expected(kMiB.value);
      const Lsn begin = kLayout.begin_of(each.number);
      EXPECT_LT(begin, at);
      std::ranges::copy(bytes_of({begin, std::min(at, begin + kMiB)}), expected.begin());
      EXPECT_EQ(*wal::io::read_file(each.path), expected) << each.path;
    }
    for (const auto& each : wal::io::list_segments(path / "ledger", kLayout))
      EXPECT_LE(kLayout.begin_of(each.number + 1), at);
    // Opened once more it is as it is.
    const auto content = *wal::io::read_file(path / "state");
    const_cast<ReplicaDirectory&>(*opened).lock.reset();
    EXPECT_EQ(ReplicaDirectory::open(path)->recovered.durable_end, at);
    EXPECT_EQ(*wal::io::read_file(path / "state"), content);
  }
  Bytes bytes_of(LsnRange range) {
    const auto span = log.at(range);
    return {span.begin(), span.end()};
  }
  void overwrite_with_zeros(LsnRange range) const {
    const int fd = ::open(segment(kLayout.number_of(range.begin)).c_str(), O_WRONLY);
    const Bytes zeros(range.size().value);
    EXPECT_EQ(::pwrite(fd, zeros.data(), zeros.size(), static_cast<off_t>(kLayout.offset_of(range.begin))),
              static_cast<ssize_t>(zeros.size()));
    ::close(fd);
  }

  fs::path path;
  node::State state;
  wal::WalWriter log{kBegin, kMiB, kSystem};
  std::vector<Lsn> ends, begins;
};

TEST_F(CutLog, EndsWhereItWasToldAndTheRestIsKeptAside) {
  expect_cut(ends[59]);
  EXPECT_EQ(kept_state().epoch_map.size(), 2u);
  EXPECT_EQ(kept_state().scan_begin, begins[59]);
  EXPECT_EQ(kept_state().final_end, ends[49]);
  EXPECT_TRUE(fs::exists(path / "ledger" / kLayout.file_name(TimelineId{1}, 3)));
}

TEST_F(CutLog, EndsBeforeTheRecordThatItWasToldToCut) {
  cut_from(Lsn{ends[60].value - 64});
  expect_cut(ends[59]);
}

TEST_F(CutLog, KeepsAScanBeginBelow) {
  state.scan_begin = begins[40];
  cut_from(ends[59]);
  expect_cut(ends[59]);
  EXPECT_EQ(kept_state().scan_begin, begins[40]);
}

TEST_F(CutLog, IsRefusedWhereTheRecordBeforeEndsBelowWhatIsFinal) {
  const std::vector<std::byte> before = *wal::io::read_file(segment(4));
  state.final_end = Lsn{ends[59].value + 4096};  // No record's end.
  cut_from(Lsn{ends[59].value + 8192});
  const auto opened = ReplicaDirectory::open(path);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ExitCode::kDirectory);
  EXPECT_EQ(*wal::io::read_file(segment(4)), before);
  EXPECT_TRUE(kept_state().replacement.has_value());
}

TEST_F(CutLog, MayBeCutToNothing) {
  state.final_end = state.counted_end = kBegin;
  cut_from(kBegin);
  expect_cut(kBegin);
  EXPECT_EQ(kept_state().scan_begin, kBegin);
  EXPECT_FALSE(kept_state().scan_begin_is_record);
}

TEST_F(CutLog, MayBeCutAtASegmentsBegin) {
  Lsn at{};
  for (const Lsn end : ends)
    if (end <= kLayout.begin_of(5)) at = end;
  cut_from(kLayout.begin_of(5));
  expect_cut(at);
}

// What a crash, of the process or of the machine, leaves behind each step, and within those that are several.
TEST_F(CutLog, IsFinishedAfterACrashInIt) {
  const Lsn from{ends[59].value + 8192}, at = ends[59];
  const std::uint64_t number = kLayout.number_of(at);
  const auto narrowed = [&] {
    wal::Recovered found;
    found.durable_end = at;
    keep(node::state_before_cut(state, found));
  };
  const auto begun_aside = [&] {
    fs::create_directory(path / "aside");
    EXPECT_TRUE(wal::io::durable_replace(aside(at).string() + ".new", Bytes(100, std::byte{7})));
  };
  const auto set_aside = [&] { EXPECT_TRUE(*wal::io::set_tail_aside(path / "wal", kLayout, kHistory, at, aside(at))); };
  const auto dropped = [&] { EXPECT_TRUE(wal::io::remove_ledgers_beyond(path / "ledger", kLayout, at)); };
  const auto removed = [&] { fs::remove(segment(number + 1)); };
  const auto some_zeros = [&] { overwrite_with_zeros({at + ByteCount{512}, at + ByteCount{9000}}); };
  const auto cleared = [&] { EXPECT_TRUE(wal::io::clear_tail(path / "wal", kLayout, kHistory, at)); };
  const auto nothing = [] {};
  const std::vector<std::function<void()>> steps{nothing, narrowed, begun_aside, set_aside,
                                                 dropped, removed,  some_zeros,  cleared};
  const fs::path whole = path.string() + ".whole";
  cut_from(from);
  fs::copy(path, whole, fs::copy_options::recursive);
  for (std::size_t done = 1; done <= steps.size(); ++done) {
    SCOPED_TRACE(done);
    fs::remove_all(path);
    fs::copy(whole, path, fs::copy_options::recursive);
    for (std::size_t i = 0; i < done; ++i) steps[i]();
    expect_cut(at);
  }
  fs::remove_all(whole);
}

TEST_F(CutLog, IsNotCutBelowWhatIsFinal) {
  cut_from(Lsn{ends[49].value - 8});
  const auto before = *wal::io::read_file(segment(4));
  const auto opened = ReplicaDirectory::open(path);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ExitCode::kDirectory);
  EXPECT_NE(opened.error().message().find("what is final is never cut"), std::string::npos);
  EXPECT_EQ(*wal::io::read_file(segment(4)), before);
  EXPECT_TRUE(kept_state().replacement.has_value());
}

TEST_F(CutLog, IsNotCutWhereItCannotBeReadBelow) {
  overwrite_with_zeros({Lsn{ends[55].value + 100}, Lsn{ends[55].value + 200}});
  const auto before = *wal::io::read_file(segment(4));
  const auto opened = ReplicaDirectory::open(path);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ExitCode::kDirectory);
  EXPECT_NE(opened.error().message().find("damaged at " + to_string(ends[55])), std::string::npos)
      << opened.error().message();
  EXPECT_EQ(*wal::io::read_file(segment(4)), before);
  EXPECT_FALSE(fs::exists(path / "aside"));
}

TEST_F(CutLog, IsNotCutByWhoeverOnlyLooks) {
  const auto looked = ReplicaDirectory::look_at(path, ReplicaDirectory::Check::kWhole);
  ASSERT_TRUE(looked.has_value());
  EXPECT_EQ(looked->recovered.durable_end, ends.back());
  EXPECT_TRUE(kept_state().replacement.has_value());
}

TEST_F(CutLog, IsCutBeforeItGivesEvidence) {
  const auto evidence = examine_stopped(path, "a", NodeId{2}, {});
  ASSERT_TRUE(evidence.has_value()) << evidence.error().message();
  EXPECT_EQ(evidence->durable_end, ends[59]);
}

}  // namespace
}  // namespace slipstream::app
