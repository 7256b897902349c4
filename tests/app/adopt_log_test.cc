#include "app/adopt_log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "app/log_order.h"
#include "app/promotion.h"
#include "wal/wal_writer.h"

namespace slipstream::app {
namespace {

constexpr ByteCount kMiB{1u << 20};
constexpr SystemId kSystem{77};
const wal::SegmentLayout kLayout{kMiB};
constexpr Lsn kBegin{std::uint64_t{3} << 20};
const node::Promise kPromise{{5, 0}, {}, "a"};

// A log of a few segments, as the primary wrote it.
struct Log {
  explicit Log(int records = 120, std::uint8_t fill = 0x5a, int fill_from = 0) {
    for (int i = 0; i < records; ++i) {
      ends.push_back(writer.record(30'000, i < fill_from ? 0x5a : fill));
      begins.push_back(writer.previous());
    }
  }
  wal::WalWriter writer{kBegin, kMiB, kSystem};
  std::vector<Lsn> ends, begins;
};

// A stopped replica's directory that holds the first `records` of a log; `torn` bytes of the next record lie behind.
class Place {
 public:
  Place(Log& log, std::size_t records, std::uint64_t number, std::size_t torn = 0) : end_(log.ends.at(records - 1)) {
    char name[] = "/tmp/slipstream_adopt_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::create_directory(path_ / "wal");
    state_.system = kSystem, state_.segment_size = kMiB, state_.timeline = TimelineId{1}, state_.page_magic = 0xD110;
    state_.log_id = LogId{{1, number}};
    state_.log_begin = kBegin;
    state_.scan_begin = log.begins.at(records - 1), state_.scan_begin_is_record = true;
    state_.final_end = state_.counted_end = log.ends.at(std::min<std::size_t>(records, 40) - 1);
    state_.promise = kPromise;
    state_.held_epoch = {1, 3};
    state_.epoch_map = {{{1, 3}, kBegin, TimelineId{1}, Identity{{5, 5}}}};
    state_.policy = {1, "ANY 1 (a, b)", {{"a", NodeId{2}, LogId{{1, 2}}}, {"b", NodeId{3}, LogId{{1, 3}}}}};
    keep();
    const Lsn written = end_ + ByteCount{torn};
    for (std::uint64_t segment = kLayout.number_of(kBegin); segment <= kLayout.number_of(written) + 1; ++segment) {
      std::vector<std::byte> bytes(kMiB.value);
      const Lsn from = kLayout.begin_of(segment), to = std::min(written, from + kMiB);
      if (from < to) std::ranges::copy(log.writer.at({from, to}), bytes.begin());
      EXPECT_TRUE(wal::io::durable_replace(path_ / "wal" / kLayout.file_name(TimelineId{1}, segment), bytes));
    }
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  void keep() { EXPECT_TRUE(wal::io::durable_replace(path_ / "state", node::encode(state_))); }
  std::expected<AdoptedLog, Error> adopt(const Place& from,
                                         const std::optional<node::Evidence>& evidence = std::nullopt) const {
    auto own = ReplicaDirectory::open(path_);
    if (!own) return std::unexpected(own.error());
    return adopt_log(*own, from.path_, "a", evidence);
  }
  ReplicaDirectory opened() const {
    auto directory = ReplicaDirectory::open(path_, ReplicaDirectory::Check::kWhole);
    EXPECT_TRUE(directory) << directory.error().message();
    return std::move(*directory);
  }
  node::Evidence evidence(const std::string& name) const {
    auto found = examine_stopped(path_, name, {}, {});
    EXPECT_TRUE(found);
    return *found;
  }

  std::filesystem::path path_;
  Lsn end_;
  node::State state_;
};

void expect_refused(const std::expected<AdoptedLog, Error>& done, const std::vector<std::string>& parts,
                    ExitCode code = ExitCode::kRefused) {
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, code) << done.error().message();
  for (const std::string& part : parts)
    EXPECT_NE(done.error().message().find(part), std::string::npos) << done.error().message() << "\nlacks: " << part;
}

// Both logs hold the same bytes up to `end`.
void expect_same(const ReplicaDirectory& a, const ReplicaDirectory& b, Lsn end) {
  auto of_a = source_of(a);
  auto of_b = source_of(b);
  const auto difference = wal::io::digest_blocks(of_a, kLayout, {kBegin, end});
  EXPECT_EQ(difference, wal::io::digest_blocks(of_b, kLayout, {kBegin, end}));
  EXPECT_EQ(difference.back().range.end, end);
}

TEST(AdoptLog, AddsWhatIsMissingAndTakesTheOthersLabels) {
  Log log;
  Place a(log, 50, 2, 9'000), b(log, 120, 3);
  b.state_.held_epoch = {1, 4};
  b.state_.epoch_map.push_back({{1, 4}, log.ends[60], TimelineId{1}, Identity{{6, 6}}});
  b.state_.counted_end = log.ends[110], b.state_.final_end = log.ends[100];
  b.state_.policy.version = 2;
  b.keep();
  const auto done = a.adopt(b);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done->from, "b");
  EXPECT_EQ(done->held_end, log.ends[49]);
  EXPECT_EQ(done->end, log.ends[119]);
  EXPECT_EQ(done->segments, kLayout.number_of(log.ends[119]) - kLayout.number_of(log.ends[49]) + 1);
  EXPECT_FALSE(better_log(b.evidence("b"), a.evidence("a")));
  const auto after = a.opened();
  EXPECT_EQ(after.recovered.durable_end, log.ends[119]);
  expect_same(after, b.opened(), log.ends[119]);
  node::State expected = a.state_;
  expected.held_epoch = {1, 4}, expected.epoch_map = b.state_.epoch_map, expected.counted_end = log.ends[110],
  expected.final_end = log.ends[100];
  expected.scan_begin = log.begins[119], expected.policy = b.state_.policy;
  EXPECT_EQ(after.state, expected);
}

TEST(AdoptLog, FindsNothingToAdoptInALogThatIsNoLonger) {
  Log log;
  Place a(log, 60, 2), b(log, 50, 3);
  b.state_.held_epoch = {1, 9};
  b.keep();
  const auto done = a.adopt(b);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done->segments, 0u);
  EXPECT_EQ(done->end, log.ends[59]);
  EXPECT_EQ(a.opened().state, a.state_);
  Place c(log, 60, 4);
  c.state_.held_epoch = {1, 2};
  c.keep();
  ASSERT_TRUE(a.adopt(c));
  EXPECT_EQ(a.opened().state.held_epoch, (Epoch{1, 3}))
      << "an equal log that was reconciled in an older epoch lowers nothing";
}

// What a crash leaves after each step: the first `copied` segments in their new form, with or without the new state, a
// temporary file.
TEST(AdoptLog, IsFinishedByRepeatingWhereverItWasInterruptedAndLosesNothingMeanwhile) {
  Log log;
  Place b(log, 120, 3);
  b.state_.held_epoch = {1, 4};
  b.keep();
  Place whole(log, 50, 2);
  const auto reference = whole.adopt(b);
  ASSERT_TRUE(reference);
  const auto finished = whole.opened().state;
  for (std::size_t copied = 0; copied <= reference->segments; ++copied) {
    Place a(log, 50, 2, 9'000);
    a.state_.held_epoch = {1, 4};
    a.keep();
    const std::uint64_t first = kLayout.number_of(log.ends[49]);
    for (const auto& each : wal::io::list_segments(a.path_ / "wal", kLayout))
      if (each.number > first) std::filesystem::remove(each.path);
    for (std::uint64_t number = first; number < first + copied; ++number) {
      const std::string file = kLayout.file_name(TimelineId{1}, number);
      std::filesystem::copy_file(whole.path_ / "wal" / file, a.path_ / "wal" / file,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    std::filesystem::copy_file(whole.path_ / "state", a.path_ / "wal" / "xlogtemp.splice.half");
    EXPECT_GE(a.opened().recovered.durable_end, log.ends[49]) << copied;
    const auto again = a.adopt(b);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(again->end, log.ends[119]);
    const auto third = a.adopt(b);
    EXPECT_TRUE(third && third->segments == 0);
    const auto after = a.opened();
    expect_same(after, b.opened(), log.ends[119]);
    EXPECT_EQ(after.state, finished) << copied;
  }
}

TEST(AdoptLog, DoesNotLetTornBytesFollowOnWhatItCopied) {
  Log log;
  // The other ends at a segment's end; here the next segment lies, received but never reached by a whole log.
  std::size_t records = 0;
  while (kLayout.number_of(log.ends[records]) < 6) ++records;
  Place a(log, 50, 2), b(log, records, 3);
  std::filesystem::remove(a.path_ / "wal" / kLayout.file_name(TimelineId{1}, 7));
  std::vector<std::byte> stale(kMiB.value, std::byte{0x77});
  ASSERT_TRUE(wal::io::durable_replace(a.path_ / "wal" / kLayout.file_name(TimelineId{1}, 7), stale));
  ASSERT_TRUE(a.adopt(b));
  EXPECT_FALSE(std::filesystem::exists(a.path_ / "wal" / kLayout.file_name(TimelineId{1}, 7)));
  EXPECT_EQ(a.opened().recovered.durable_end, b.end_);
}

TEST(AdoptLog, RefusesLogsThatDifferAndNamesThePosition) {
  Log log, other(120, 0x33, 45);
  Place a(log, 50, 2), b(other, 120, 3);
  const auto before = wal::io::read_file(a.path_ / "state");
  const std::string at = to_string(log.begins[45]).substr(0, 4);
  expect_refused(a.adopt(b), {"the logs differ at " + at, "that of b is the better", "would have to be replaced",
                              "make the standby anew"});
  a.state_.held_epoch = {1, 7};
  a.keep();
  expect_refused(a.adopt(b), {"the logs differ at " + at, "that of a is the better (epoch 1.7, against 1.3)",
                              "promote a as it is"});
  Log damaged(120, 0x33, 20);
  Place c(damaged, 120, 3);
  expect_refused(a.adopt(c), {"below what is final in both", "promote from neither"});
  EXPECT_EQ(a.opened().recovered.durable_end, log.ends[49]);
}

TEST(AdoptLog, RefusesALogWithAnotherPromise) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3);
  b.state_.promise.candidate = "c";
  b.keep();
  expect_refused(a.adopt(b),
                 {"b has promised term 5 to c, not term 5 to a", "slipstream fence -c FILE --candidate a --term 5"});
  b.state_.promise = {{4, 0}, {}, "a"};
  b.keep();
  expect_refused(a.adopt(b), {"b has promised term 4 to a"});
  a.state_.promise = {{1, 3}, Identity{{5, 5}}, ""};
  a.keep();
  expect_refused(a.adopt(b), {"a has not promised a term to itself"});
}

TEST(AdoptLog, RefusesAnotherClusterAPromotedLogAnotherTimelineAndItself) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3);
  expect_refused(a.adopt(a), {"own log"}, ExitCode::kUsage);
  a.state_.promoted = true;
  a.keep();
  expect_refused(a.adopt(b), {"a was promoted already"});
  a.state_.promoted = false;
  a.state_.timeline = TimelineId{2};
  a.keep();
  const std::string history = "1\t0/FF00000\tno recovery target specified\n";
  ASSERT_TRUE(wal::io::durable_replace(a.path_ / "wal" / "00000002.history", std::as_bytes(std::span(history))));
  expect_refused(a.adopt(b), {"on timeline 1, which does not go on from timeline 2 here"});
}

TEST(AdoptLog, FollowsTheOtherToItsTimeline) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3);
  // The fork lies behind all that the other holds: its bytes are still timeline 1's, its files for the last segment
  // timeline 2's.
  b.state_.timeline = TimelineId{2};
  b.keep();
  const std::string history = "1\t" + to_string(log.ends[119]) + "\tno recovery target specified\n";
  ASSERT_TRUE(wal::io::durable_replace(b.path_ / "wal" / "00000002.history", std::as_bytes(std::span(history))));
  const auto done = a.adopt(b);
  ASSERT_TRUE(done) << done.error().message();
  const auto after = a.opened();
  EXPECT_EQ(after.state.timeline, TimelineId{2});
  EXPECT_EQ(after.history, history);
  EXPECT_EQ(after.recovered.durable_end, log.ends[119]);
}

TEST(AdoptLog, RefusesLogsWithoutBytesInCommon) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3);
  b.state_.log_begin = Lsn{std::uint64_t{5} << 20};
  b.keep();
  expect_refused(a.adopt(b), {"no bytes in common", "make the standby anew"});
}

TEST(AdoptLog, RefusesACopyThatLacksWhatTheEvidenceSays) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3), older(log, 110, 3);
  const auto evidence = b.evidence("b");
  expect_refused(a.adopt(older, evidence),
                 {"the copy ends at " + to_string(log.ends[109]), "with " + to_string(log.ends[119]) + " durable",
                  "copy the directory again"});
  auto other = evidence;
  other.log_id = LogId{{9, 9}};
  expect_refused(a.adopt(b, other), {"evidence is of another log"});
  other = evidence;
  other.blocks.back().digest = {1, 2};
  expect_refused(a.adopt(b, other), {"the copy differs from what b answered"});
  EXPECT_TRUE(a.adopt(b, evidence));
}

TEST(AdoptLog, NamesADamagedCopy) {
  Log log;
  Place a(log, 50, 2), b(log, 120, 3);
  std::filesystem::resize_file(b.path_ / "wal" / kLayout.file_name(TimelineId{1}, 4), 70'000);
  expect_refused(a.adopt(b), {"wrong segment size"}, ExitCode::kDirectory);
  std::filesystem::remove(b.path_ / "wal" / kLayout.file_name(TimelineId{1}, 4));
  expect_refused(a.adopt(b), {"the segment is missing"}, ExitCode::kDirectory);
  EXPECT_EQ(a.opened().recovered.durable_end, log.ends[49]);
}

}  // namespace
}  // namespace slipstream::app
