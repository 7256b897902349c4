#include <gtest/gtest.h>

#include "base/digest.h"
#include "node/comparison.h"
#include "node/confirmer.h"
#include "node/digest_service.h"
#include "node/history_keeper.h"
#include "node/read_slots.h"
#include "node/replica_log.h"
#include "node/reporter.h"
#include "node/ship_log.h"
#include "wal/wal_writer.h"

// The small machines that the nodes are made of, each by itself.
namespace slipstream::node {
namespace {

constexpr std::size_t kRing = 4u << 20;
constexpr Instant kNow{1'000'000'000};

LsnRange range(std::uint64_t begin, std::uint64_t end) { return {Lsn{begin}, Lsn{end}}; }

// ---- ShipLog

protocol::Batch put(ShipLog& log, LsnRange at, std::uint8_t fill) {
  const auto memory = log.reserve(at);
  std::ranges::fill(memory, std::byte{fill});
  const protocol::Batch batch{at, xxh3_64(memory)};
  log.append(batch);
  return batch;
}

TEST(ShipLog, FindsTheBatchThatHoldsAPosition) {
  std::vector<std::byte> ring(kRing);
  ShipLog log(ring);
  log.reset(Lsn{1000});
  put(log, range(1000, 2000), 1);
  const auto second = put(log, range(2000, 5000), 2);
  EXPECT_EQ(log.batch_from(Lsn{2000}), second);
  EXPECT_FALSE(log.batch_from(Lsn{999}));
  EXPECT_FALSE(log.batch_from(Lsn{5000}));
}

TEST(ShipLog, CutsABatchWithADigestOfItsOwnWhenAPeerStartsInside) {
  std::vector<std::byte> ring(kRing);
  ShipLog log(ring);
  log.reset(Lsn{1000});
  put(log, range(1000, 2000), 1);
  const auto rest = log.batch_from(Lsn{1500});
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->range, range(1500, 2000));
  EXPECT_EQ(rest->digest, xxh3_64(std::vector<std::byte>(500, std::byte{1})));
}

TEST(ShipLog, EvictsWholeBatchesThatNewOnesDisplace) {
  std::vector<std::byte> ring(kRing);
  ShipLog log(ring);
  log.reset(Lsn{0x100000});
  for (std::uint64_t at = 0x100000; at < 0x100000 + kRing; at += 0x10000) put(log, range(at, at + 0x10000), 1);
  EXPECT_EQ(log.begin(), Lsn{0x100000});
  put(log, range(0x100000 + kRing, 0x100000 + kRing + 1), 2);
  EXPECT_EQ(log.begin(), Lsn{0x110000});
  EXPECT_FALSE(log.holds(range(0x10ffff, 0x110001)));
  EXPECT_TRUE(log.holds({log.begin(), log.end()}));
}

// ---- Confirmer

struct ConfirmerTest : ::testing::Test {
  std::vector<std::byte> ring = std::vector<std::byte>(kRing);
  ShipLog log{ring};
  Confirmer confirmer{log, 10};

  static UpstreamChunk chunk(LsnRange at, std::uint8_t fill) {
    return {at, xxh3_64(std::vector<std::byte>(at.size().value, std::byte{fill}))};
  }
  void finish(const ReadOp& read, std::uint8_t fill, Instant now = kNow) {
    std::ranges::fill(read.into, std::byte{fill});
    confirmer.on_read(read.id, DiskStatus::kOk, now);
  }
};

TEST_F(ConfirmerTest, GivesBatchesInOrderHoweverTheirReadsEnd) {
  confirmer.restart(Lsn{8192});
  confirmer.on_chunk(chunk(range(8192, 9000), 1), kNow);
  confirmer.on_chunk(chunk(range(9000, 9500), 2), kNow + milliseconds(1));
  const auto first = confirmer.next_read(kNow), second = confirmer.next_read(kNow);
  ASSERT_TRUE(first && second);
  finish(*second, 2);
  EXPECT_FALSE(confirmer.next_confirmed());
  finish(*first, 1);
  EXPECT_EQ(confirmer.next_confirmed()->range, range(8192, 9000));
  EXPECT_EQ(confirmer.next_confirmed()->heard, kNow + milliseconds(1));
  EXPECT_EQ(log.end(), Lsn{9500});
}

TEST_F(ConfirmerTest, WaitsForTheReadsOfALostConnectionBeforeItReadsIntoTheirMemory) {
  confirmer.restart(Lsn{8192});
  confirmer.on_chunk(chunk(range(8192, 9000), 1), kNow);
  const auto stale = confirmer.next_read(kNow);
  confirmer.restart(Lsn{8192});
  confirmer.on_chunk(chunk(range(8192, 9000), 1), kNow);
  EXPECT_FALSE(confirmer.next_read(kNow));
  finish(*stale, 1);
  EXPECT_FALSE(confirmer.next_confirmed());  // It was the old connection's.
  EXPECT_TRUE(confirmer.next_read(kNow));
}

TEST_F(ConfirmerTest, ReadsADifferenceThriceAndAsksForAReconnectThreeTimesAtMost) {
  for (int connection = 0; connection < 3; ++connection) {
    confirmer.restart(Lsn{8192});
    confirmer.on_chunk(chunk(range(8192, 9000), 1), kNow);
    confirmer.on_chunk(chunk(range(9000, 9100), 1), kNow);
    for (int i = 0; i < 3; ++i) {
      auto read = confirmer.next_read(kNow + seconds(i));
      ASSERT_TRUE(read);
      if (read->range.begin != Lsn{8192}) finish(*read, 1), read = confirmer.next_read(kNow + seconds(i));
      ASSERT_FALSE(confirmer.take_reconnect());
      finish(*read, 9, kNow + seconds(i));
      while (const auto other = confirmer.next_read(kNow + seconds(i) + microseconds(1))) finish(*other, 1);
    }
    EXPECT_FALSE(confirmer.next_confirmed());
    EXPECT_EQ(log.end(), Lsn{8192});
    EXPECT_EQ(confirmer.take_reconnect(), connection < 2);
    EXPECT_EQ(confirmer.given_up(), connection == 2);
  }
}

// ---- Comparison

protocol::DigestReply digests(LsnRange at, std::uint8_t fill) {
  protocol::DigestReply reply;
  for (Lsn p = at.begin; p < at.end;) {
    const Lsn end = std::min(at.end, Lsn{align_down(p, wal::kBlockBytes).value + wal::kBlockBytes});
    reply.digests.push_back({{p, end}, xxh3_128(std::vector<std::byte>((end - p).value, std::byte{fill}))});
    p = end;
  }
  return reply;
}

TEST(Comparison, IsDoneOnlyAfterTheLastBlockWasEqual) {
  Comparison comparison;
  comparison.start(range(0x100000, 0x100000 + 3 * 0x10000 + 77), Lsn{}, Lsn{});
  const auto wanted = comparison.wanted();
  ASSERT_EQ(wanted, range(0x100000, 0x13004d));
  ASSERT_EQ(comparison.on_reply(digests(*wanted, 5)), protocol::Verdict::kAccepted);
  EXPECT_EQ(comparison.on_reply(digests(*wanted, 5)), protocol::Verdict::kDuplicate);
  for (int i = 0; i < 4; ++i) {
    const auto block = comparison.next_block();
    ASSERT_TRUE(block);
    EXPECT_FALSE(comparison.next_block());
    const auto outcome = comparison.on_block(std::vector<std::byte>(block->size().value, std::byte{5}));
    EXPECT_EQ(outcome, i < 3 ? Comparison::Outcome::kGoesOn : Comparison::Outcome::kDone);
  }
}

TEST(Comparison, AsksAgainForAReplyThatDoesNotCoverTheWindow) {
  Comparison comparison;
  comparison.start(range(0x100000, 0x130000), Lsn{}, Lsn{});
  EXPECT_EQ(comparison.on_reply(digests(range(0x100000, 0x120000), 5)), protocol::Verdict::kBadRange);
  EXPECT_TRUE(comparison.wanted());
}

TEST(Comparison, NamesTheFirstDifference) {
  Comparison comparison;
  comparison.start(range(0x100000, 0x120000), Lsn{}, Lsn{});
  ASSERT_EQ(comparison.on_reply(digests(range(0x100000, 0x120000), 5)), protocol::Verdict::kAccepted);
  const auto block = comparison.next_block();
  EXPECT_EQ(comparison.on_block(std::vector<std::byte>(block->size().value, std::byte{6})),
            Comparison::Outcome::kDifferent);
  EXPECT_EQ(comparison.compared_end(), Lsn{0x100000});
}

TEST(Comparison, DoesWithoutAMissingFileOnlyBelowWhatIsFinal) {
  Comparison comparison;
  comparison.start(range(0x100000, 0x120000), Lsn{0x110000}, Lsn{0x110000});
  ASSERT_EQ(comparison.on_reply(digests(range(0x100000, 0x120000), 5)), protocol::Verdict::kAccepted);
  (void)comparison.next_block();
  EXPECT_EQ(comparison.on_block({}), Comparison::Outcome::kGoesOn);
  (void)comparison.next_block();
  EXPECT_EQ(comparison.on_block({}), Comparison::Outcome::kGone);
}

TEST(Comparison, BeginsSixteenMebibytesBelowWhatIsFinal) {
  Comparison comparison;
  comparison.start(range(0x100000, 0x9000000), Lsn{0x8000123}, Lsn{});
  EXPECT_EQ(comparison.wanted()->begin, Lsn{0x7000000});
}

// ---- ReadSlots

struct ReadSlotsTest : ::testing::Test {
  std::vector<std::byte> memory = std::vector<std::byte>(4 * ReadSlots::kSlotBytes);
  ReadSlots slots{memory, 50};

  void read(LsnRange at) {
    slots.want(at, false);
    finish();
  }
  void finish() {
    const auto op = slots.next_read();
    ASSERT_TRUE(op);
    ASSERT_TRUE(slots.on_read(op->id - 50, DiskStatus::kOk));
  }
};

TEST_F(ReadSlotsTest, ForgetsWhatASessionThatIsGoneHadAskedForButKeepsItsMemoryFromOthers) {
  slots.want(range(0, 100), false);
  const auto op = slots.next_read();
  ASSERT_TRUE(op);
  slots.forget();
  for (int i = 0; i < 3; ++i) slots.want(range(0, 100), false);
  EXPECT_FALSE(slots.has_free());
  EXPECT_FALSE(slots.on_read(op->id - 50, DiskStatus::kOk));
  EXPECT_FALSE(slots.ready(Lsn{0}));
  EXPECT_TRUE(slots.has_free());
}

TEST_F(ReadSlotsTest, LeaveRoomForRepairsAndTakeTheFarthestOfferedOneWhenThereIsNone) {
  read(range(1000, 1100));
  EXPECT_TRUE(slots.has_room_for_catch_up());
  read(range(1100, 1200));
  EXPECT_FALSE(slots.has_room_for_catch_up());
  read(range(1200, 1300));
  read(range(1300, 1400));
  slots.want_repair(range(900, 1000), Lsn{1300});  // The last one is not offered yet: it could not be asked for again.
  finish();
  EXPECT_TRUE(slots.ready(Lsn{900}));
  EXPECT_FALSE(slots.ready(Lsn{1200}));
  EXPECT_TRUE(slots.ready(Lsn{1300}));
}

TEST_F(ReadSlotsTest, SayWhenAFileIsGone) {
  slots.want(range(1000, 1100), false);
  const auto read = slots.on_read(slots.next_read()->id - 50, DiskStatus::kMissing);
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->bytes.empty());
  EXPECT_FALSE(slots.ready(Lsn{1000}));
}

// ---- Reporter

TEST(Reporter, NeverExceedsWhatIsCommittedOrValid) {
  Reporter reporter;
  ack::Ends committed{{Lsn{100}, Lsn{80}, Lsn{60}}};
  reporter.raise(committed, Lsn{70}, Lsn{70});
  EXPECT_EQ(reporter.report(), (Report{Lsn{70}, Lsn{70}, Lsn{60}}));
}

TEST(Reporter, NeverFallsOverOneConnectionAndStartsFromNothingAtTheNext) {
  Reporter reporter;
  reporter.raise({{Lsn{100}, Lsn{100}, Lsn{100}}}, Lsn{90}, Lsn{90});
  reporter.raise({{Lsn{50}, Lsn{50}, Lsn{50}}}, Lsn{50}, Lsn{50});
  EXPECT_EQ(reporter.report().flush, Lsn{90});
  reporter.on_connected();
  EXPECT_EQ(reporter.report(), Report{});
}

TEST(Reporter, KeepsToTheStreamWhilePostgresqlStops) {
  Reporter reporter;
  reporter.on_stopping();
  reporter.raise({{Lsn{100}, Lsn{100}, Lsn{100}}}, Lsn{100}, Lsn{90});
  EXPECT_EQ(reporter.report().flush, Lsn{90});
}

TEST(Reporter, NeverRisesAgainOnceFrozen) {
  Reporter reporter;
  reporter.raise({{Lsn{10}, Lsn{10}, Lsn{10}}}, Lsn{10}, Lsn{10});
  reporter.freeze();
  reporter.raise({{Lsn{20}, Lsn{20}, Lsn{20}}}, Lsn{20}, Lsn{20});
  EXPECT_EQ(reporter.report().write, Lsn{10});
}

// ---- ReplicaLog

struct ReplicaLogTest : ::testing::Test {
  static constexpr Lsn kBegin{3u << 20};
  static constexpr std::size_t kMuch = ReplicaLog::kTailBytesMax + 5000;  // More than goes in one write.
  struct alignas(4096) Ring {
    std::array<std::byte, kRing> bytes{};
  };
  std::unique_ptr<Ring> ring = std::make_unique<Ring>();
  wal::WalWriter wal{kBegin, ByteCount{1u << 20}, SystemId{9}};
  ReplicaLog log{wal::SegmentLayout(ByteCount{1u << 20}),
                 ring->bytes,
                 {kBegin, Lsn{}, wal::Scanner::Start::kPage, wal::ScanFault::kEnd},
                 wal::Scanner::Start::kPage,
                 {SystemId{9}, {}},
                 100};

  void receive(Lsn end) {
    for (Lsn at = log.received_end(); at < end; at = at + ByteCount{1})
      ring->bytes[at.value & (kRing - 1)] = wal.at({at, at + ByteCount{1}})[0];
    log.on_received(end);
  }
};
using ReplicaLogs = ReplicaLogTest;

TEST_F(ReplicaLogs, IsDurableOnlyToTheEndOfTheLastCompleteRecord) {
  const Lsn first = wal.record(100), second = wal.record(kMuch);
  receive(second);
  EXPECT_EQ(log.durable_end(), kBegin);
  std::vector<WriteOp> writes;
  while (const auto write = log.next_write(kNow)) writes.push_back(*write);
  ASSERT_EQ(writes.size(), 2u);  // The whole blocks, and the part of one.
  log.on_written(writes[0].id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.synced_end(), align_down(second, ReplicaLog::kBlock));
  EXPECT_EQ(log.durable_end(), first);
  log.on_written(writes[1].id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.durable_end(), second);
}

TEST_F(ReplicaLogs, WritesLittleAtOnceWithThePartialBlockAtItsEnd) {
  receive(wal.record(100));
  const auto first = log.next_write(kNow);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes.size(), ReplicaLog::kBlock);
  Lsn end{};
  for (int i = 0; i < 10; ++i) receive(end = wal.record(5000));
  EXPECT_FALSE(log.next_write(kNow));  // What comes meanwhile waits, and goes together.
  log.on_written(first->id, DiskStatus::kOk, kNow);
  const auto second = log.next_write(kNow);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->bytes.size(), 13 * ReplicaLog::kBlock);
  EXPECT_TRUE(std::ranges::equal(second->bytes.first((end - kBegin).value), wal.at({kBegin, end})));
  EXPECT_FALSE(log.next_write(kNow));
  log.on_written(second->id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.durable_end(), end);
}

TEST_F(ReplicaLogs, RisesContiguouslyWhateverTheOrderOfWrites) {
  const Lsn end = wal.record(kMuch);
  receive(end);
  const auto whole = log.next_write(kNow), part = log.next_write(kNow);
  log.on_written(part->id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.synced_end(), kBegin);
  log.on_written(whole->id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.synced_end(), end);
}

TEST_F(ReplicaLogs, LearnsHowLongWritesTake) {
  Instant now = kNow;
  EXPECT_GE(log.write_time(), seconds(1));
  for (int i = 0; i < 200; ++i) {
    receive(wal.record(100));
    const auto write = log.next_write(now);
    now = now + microseconds(50);
    log.on_written(write->id, DiskStatus::kOk, now);
  }
  EXPECT_LT(log.write_time(), microseconds(60));
  EXPECT_GT(log.write_time(), microseconds(40));
}

TEST_F(ReplicaLogs, NeverHasTwoWritesOfOneBlockUnderWay) {
  receive(wal.record(100));
  const auto first = log.next_write(kNow);
  ASSERT_TRUE(first);
  receive(wal.record(100));
  EXPECT_FALSE(log.next_write(kNow));
  log.on_written(first->id, DiskStatus::kOk, kNow);
  const auto second = log.next_write(kNow);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->at, first->at);
}

TEST_F(ReplicaLogs, WritesZerosBehindWhatWasReceived) {
  std::ranges::fill(ring->bytes, std::byte{0xee});  // An earlier lap's bytes.
  const auto zeros_behind = [&](const WriteOp& write, Lsn end) {
    return std::ranges::all_of(write.bytes.subspan((end - write.at).value),
                               [](std::byte b) { return b == std::byte{0}; });
  };
  const Lsn first = wal.record(3000);
  receive(first);
  const auto write = log.next_write(kNow);
  ASSERT_TRUE(write);
  EXPECT_TRUE(zeros_behind(*write, first));
  log.on_written(write->id, DiskStatus::kOk, kNow);
  const Lsn second = wal.record(1200);  // Ends early in the next block.
  receive(second);
  std::optional<WriteOp> last;
  while (const auto next = log.next_write(kNow)) last = next;
  ASSERT_TRUE(last);
  EXPECT_TRUE(zeros_behind(*last, second));
}

TEST_F(ReplicaLogs, WritesAgainWhatFoundNoSpaceAfterHalfASecond) {
  const Lsn end = wal.record(kMuch);
  receive(end);
  const auto whole = log.next_write(kNow), part = log.next_write(kNow);
  log.on_written(whole->id, DiskStatus::kNoSpace, kNow);
  log.on_written(part->id, DiskStatus::kOk, kNow);
  EXPECT_TRUE(log.no_space());
  EXPECT_FALSE(log.next_write(kNow + milliseconds(499)));
  while (const auto again = log.next_write(kNow + milliseconds(500))) log.on_written(again->id, DiskStatus::kOk, kNow);
  EXPECT_FALSE(log.no_space());
  EXPECT_EQ(log.durable_end(), end);
  EXPECT_TRUE(log.settled());
}

TEST_F(ReplicaLogs, BeginsANewSessionBehindTheLastCompleteRecord) {
  const Lsn first = wal.record(100);
  const Lsn second = wal.record(20'000);
  receive(first + ByteCount{9000});
  while (const auto write = log.next_write(kNow)) log.on_written(write->id, DiskStatus::kOk, kNow);
  ASSERT_TRUE(log.settled());
  log.rewind();
  EXPECT_EQ(log.received_end(), first);
  receive(second);
  while (const auto write = log.next_write(kNow)) log.on_written(write->id, DiskStatus::kOk, kNow);
  EXPECT_EQ(log.durable_end(), second);
}

// ---- DigestService, HistoryKeeper

TEST(DigestService, ForgetsAReadThatWasUnderWayWhenTheSessionEnded) {
  std::vector<std::byte> memory(wal::kBlockBytes);
  DigestService service(memory, 3);
  service.start(range(0x10000, 0x30000));
  ASSERT_TRUE(service.next_read());
  service.on_read(DiskStatus::kOk);
  ASSERT_TRUE(service.next_read());
  service.stop();
  EXPECT_FALSE(service.next_read());
  service.on_read(DiskStatus::kOk);
  EXPECT_FALSE(service.next_read());
  EXPECT_FALSE(service.next_reply());
  service.start(range(0x10000, 0x10010));
  ASSERT_TRUE(service.next_read());
  service.on_read(DiskStatus::kOk);
  EXPECT_EQ(service.next_reply()->digests.size(), 1u);
}

TEST(HistoryKeeper, HasAHistoryOnlyOnceItIsWholeAndDurable) {
  HistoryKeeper keeper(2, TimelineId{1});
  EXPECT_TRUE(keeper.has(TimelineId{1}));
  EXPECT_EQ(keeper.on_piece({TimelineId{2}, 6, 3, "def"}), protocol::Verdict::kBadRange);
  EXPECT_EQ(keeper.on_piece({TimelineId{2}, 6, 0, "abc"}), protocol::Verdict::kAccepted);
  EXPECT_FALSE(keeper.next());
  EXPECT_EQ(keeper.on_piece({TimelineId{2}, 6, 3, "def"}), protocol::Verdict::kAccepted);
  const auto op = keeper.next();
  ASSERT_TRUE(op);
  EXPECT_EQ(op->content, "abcdef");
  EXPECT_FALSE(keeper.has(TimelineId{2}));
  keeper.on_kept(DiskStatus::kOk);
  EXPECT_TRUE(keeper.has(TimelineId{2}));
}

}  // namespace
}  // namespace slipstream::node
