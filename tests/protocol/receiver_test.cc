#include "protocol/receiver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/digest.h"
#include "tests/protocol/samples.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kRingBytes = 2u << 20;
constexpr Lsn kBegin{(5u << 20) + 4096};
constexpr Duration kReorderDelay = kReorderAllowance;

Lsn at(std::uint64_t bytes) { return kBegin + ByteCount{bytes}; }
LsnRange bytes(std::uint64_t begin, std::uint64_t end) { return {at(begin), at(end)}; }

// The stream's byte at each position.
Bytes content(LsnRange range) {
  Bytes out;
  for (std::uint64_t i = range.begin.value; i < range.end.value; ++i)
    out.push_back(static_cast<std::byte>(i * 131 >> 5));
  return out;
}
Batch batch_of(LsnRange range) { return {range, xxh3_64(content(range))}; }

class ReceiverTest : public testing::Test {
 protected:
  Verdict give(LsnRange range, const Batch& batch, const Bytes& payload) {
    FrameHeader header;
    header.position = range.begin;
    header.sent_at = static_cast<std::uint64_t>(now.ns);
    return receiver.on_data(header, {batch, payload}, now);
  }
  Verdict give(LsnRange range, LsnRange batch) { return give(range, batch_of(batch), content(range)); }
  Verdict give(LsnRange batch) { return give(batch, batch); }
  void probe(std::uint64_t sent) {
    FrameHeader header;
    header.sent_at = static_cast<std::uint64_t>(now.ns);
    receiver.on_probe(header, {at(sent), true}, now);
  }
  Ack ack() {
    Ack out;
    receiver.fill_ack(out, now);
    return out;
  }
  std::vector<LsnRange> missing() {
    const Ack out = ack();
    return {out.missing.begin(), out.missing.begin() + static_cast<std::ptrdiff_t>(out.missing_count)};
  }
  Bytes held(LsnRange range) const {
    Bytes out;
    for (std::uint64_t i = range.begin.value; i < range.end.value; ++i) out.push_back(ring[i % kRingBytes]);
    return out;
  }

  using Ranges = std::vector<LsnRange>;
  Bytes ring = Bytes(kRingBytes);
  Instant now{1'000'000'000};
  Receiver receiver{ring, kBegin, kBegin, now};
};

TEST_F(ReceiverTest, CountsBytesOnceTheirBatchIsWholeAndItsDigestRight) {
  EXPECT_EQ(give(bytes(0, 600), bytes(0, 1000)), Verdict::kAccepted);
  EXPECT_EQ(receiver.received_end(), kBegin);
  EXPECT_EQ(give(bytes(600, 1000), bytes(0, 1000)), Verdict::kAccepted);
  EXPECT_EQ(receiver.received_end(), at(1000));
  EXPECT_EQ(held(bytes(0, 1000)), content(bytes(0, 1000)));
  EXPECT_EQ(receiver.counters().bytes_received, 1000u);
}

TEST_F(ReceiverTest, TakesSixFramesInAll720Orders) {
  const std::pair<LsnRange, LsnRange> frames[] = {
      {bytes(0, 300), bytes(0, 700)},     {bytes(300, 600), bytes(0, 700)},    {bytes(600, 700), bytes(0, 700)},
      {bytes(700, 701), bytes(700, 701)}, {bytes(701, 900), bytes(701, 1100)}, {bytes(900, 1100), bytes(701, 1100)}};
  std::vector<std::size_t> order(6);
  std::iota(order.begin(), order.end(), 0);
  int orders = 0;
  do {
    std::ranges::fill(ring, std::byte{0});
    receiver = Receiver(ring, kBegin, kBegin, now);
    Lsn before = kBegin;
    for (const std::size_t each : order) {
      ASSERT_EQ(give(frames[each].first, frames[each].second), Verdict::kAccepted);
      ASSERT_LE(before, receiver.received_end());
      before = receiver.received_end();
    }
    ASSERT_EQ(receiver.received_end(), at(1100));
    ASSERT_EQ(held(bytes(0, 1100)), content(bytes(0, 1100)));
    now = now + seconds(1);
    ASSERT_TRUE(missing().empty());
    ++orders;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(orders, 720);
}

TEST_F(ReceiverTest, BatchesVerifiedOutOfOrderCountWhenTheGapCloses) {
  give(bytes(1000, 2000));
  give(bytes(2000, 3000));
  EXPECT_EQ(receiver.received_end(), kBegin);
  give(bytes(0, 1000));
  EXPECT_EQ(receiver.received_end(), at(3000));
}

TEST_F(ReceiverTest, DropsAWholeBatchWhoseDigestDiffersAndAsksForAllOfIt) {
  Bytes damaged = content(bytes(0, 500));
  damaged[77] ^= std::byte{4};
  EXPECT_EQ(give(bytes(0, 500), batch_of(bytes(0, 1000)), damaged), Verdict::kAccepted);
  EXPECT_EQ(give(bytes(500, 1000), bytes(0, 1000)), Verdict::kChecksum);
  EXPECT_EQ(receiver.received_end(), kBegin);
  EXPECT_EQ(receiver.counters().batches_dropped, 1u);
  EXPECT_TRUE(receiver.ack_due(now));
  EXPECT_EQ(missing(), (Ranges{bytes(0, 1000)}));
  EXPECT_EQ(give(bytes(500, 1000), bytes(0, 1000)), Verdict::kAccepted) << "none of it is held";
  EXPECT_EQ(give(bytes(0, 500), bytes(0, 1000)), Verdict::kAccepted);
  EXPECT_EQ(receiver.received_end(), at(1000));
}

TEST_F(ReceiverTest, RefusesAnotherDescriptionOfBytesWhoseBatchIsKnown) {
  give(bytes(100, 200), bytes(0, 1000));
  Batch other = batch_of(bytes(0, 1000));
  other.digest ^= 1;
  EXPECT_EQ(give(bytes(200, 300), other, content(bytes(200, 300))), Verdict::kBadField);
  EXPECT_EQ(give(bytes(900, 1000), bytes(900, 2000)), Verdict::kBadField) << "overlaps its end";
  EXPECT_EQ(give(bytes(100, 200), bytes(100, 200)), Verdict::kBadField) << "lies within it";
  EXPECT_EQ(give(bytes(0, 1000), bytes(0, 1100)), Verdict::kBadField) << "contains it";
  EXPECT_EQ(held(bytes(200, 1100)), Bytes(900)) << "a refused frame wrote";
  EXPECT_EQ(receiver.counters().bytes_received, 100u);
  EXPECT_EQ(give(bytes(0, 1000), bytes(0, 1000)), Verdict::kAccepted);
  EXPECT_EQ(receiver.received_end(), at(1000));
}

TEST_F(ReceiverTest, RefusesABatchThatBeginsBeforeWhatCounts) {
  give(bytes(0, 1000));
  EXPECT_EQ(give(bytes(1000, 1500), bytes(500, 1500)), Verdict::kBadRange);
  EXPECT_EQ(receiver.received_end(), at(1000));
}

TEST_F(ReceiverTest, RefusesPayloadBeyondTheWindowAndTakesTheRestOfItsBatch) {
  const std::uint64_t edge = kRingBytes;
  EXPECT_EQ(receiver.window_end(), at(edge));
  (void)ack();
  EXPECT_EQ(give(bytes(edge - 100, edge + 1), bytes(edge - 200, edge + 100)), Verdict::kBadRange);
  EXPECT_EQ(receiver.sent_end(), kBegin);
  EXPECT_FALSE(receiver.ack_due(now));
  EXPECT_EQ(give(bytes(edge - 100, edge), bytes(edge - 200, edge + 100)), Verdict::kAccepted);
  EXPECT_EQ(held(bytes(0, 100)), Bytes(100)) << "wrapped around into what is not released";
}

TEST_F(ReceiverTest, NeverWritesAgainWhatCounts) {
  give(bytes(0, 1000));
  Bytes other = content(bytes(0, 1000));
  std::ranges::reverse(other);
  EXPECT_EQ(give(bytes(0, 1000), {bytes(0, 1000), xxh3_64(other)}, other), Verdict::kDuplicate);
  EXPECT_EQ(held(bytes(0, 1000)), content(bytes(0, 1000)));
  // Verified, though not contiguous yet.
  give(bytes(2000, 3000));
  EXPECT_EQ(give(bytes(2000, 2500), batch_of(bytes(2000, 3000)), Bytes(500)), Verdict::kDuplicate);
  EXPECT_EQ(held(bytes(2000, 3000)), content(bytes(2000, 3000)));
}

TEST_F(ReceiverTest, MovesItsWindowWithWhatIsReleasedAndNeverBack) {
  give(bytes(0, 8192));
  receiver.on_released(at(4096));
  EXPECT_EQ(receiver.window_end(), at(4096 + kRingBytes));
  receiver.on_released(at(0));
  EXPECT_EQ(receiver.window_end(), at(4096 + kRingBytes));
  EXPECT_EQ(ack().window_end, at(4096 + kRingBytes));
}

TEST_F(ReceiverTest, CountsWhatComesTwice) {
  give(bytes(0, 600), bytes(0, 1000));
  EXPECT_EQ(give(bytes(0, 600), bytes(0, 1000)), Verdict::kDuplicate);
  EXPECT_EQ(give(bytes(500, 900), bytes(0, 1000)), Verdict::kAccepted);
  EXPECT_EQ(receiver.counters().bytes_received, 900u);
  EXPECT_EQ(receiver.counters().bytes_duplicate, 700u);
}

TEST_F(ReceiverTest, EchoesTheNewestFrameTheDelaySinceAndTheNewsAlsoOfADuplicate) {
  EXPECT_EQ(ack().echo_sent_at, 0u);
  give(bytes(0, 1000));
  FrameHeader header;
  header.position = at(0);
  header.sent_at = static_cast<std::uint64_t>(now.ns) + 5;
  header.flushed_end = at(7000);
  header.confirmed_end = at(6000);
  const Bytes payload = content(bytes(0, 1000));
  EXPECT_EQ(receiver.on_data(header, {batch_of(bytes(0, 1000)), payload}, now), Verdict::kDuplicate);
  header.sent_at -= 3, header.flushed_end = at(6500);
  EXPECT_EQ(receiver.on_data(header, {batch_of(bytes(0, 1000)), payload}, now + microseconds(3)), Verdict::kDuplicate);
  now = now + microseconds(10);
  const Ack out = ack();
  EXPECT_EQ(out.echo_sent_at, header.sent_at + 3);
  EXPECT_EQ(out.echo_delay, 10'000u);
  EXPECT_EQ(out.echo_flushed_end, at(7000));
  EXPECT_EQ(out.echo_confirmed_end, at(6000));
  EXPECT_EQ(out.received_end, at(1000));
}

TEST_F(ReceiverTest, OwesAnAckForDataAndForAProbeThatWantsOne) {
  EXPECT_FALSE(receiver.ack_due(now));
  give(bytes(0, 10));
  EXPECT_TRUE(receiver.ack_due(now));
  (void)ack();
  EXPECT_FALSE(receiver.ack_due(now));
  receiver.on_probe({}, {at(10), false}, now);
  EXPECT_FALSE(receiver.ack_due(now));
  probe(10);
  EXPECT_TRUE(receiver.ack_due(now));
}

TEST_F(ReceiverTest, HoldsNewsBackForAWhileButNothingThatIsMissingOrAskedFor) {
  constexpr Duration kHold = microseconds(100);
  give(bytes(0, 10));
  EXPECT_FALSE(receiver.ack_due(now, kHold));
  EXPECT_EQ(receiver.deadline(kHold), now + kHold);
  now = now + microseconds(60);
  give(bytes(10, 10));
  EXPECT_EQ(receiver.deadline(kHold), now + microseconds(40));  // From the first that is untold.
  now = now + microseconds(40);
  EXPECT_TRUE(receiver.ack_due(now, kHold));
  (void)ack();
  give(bytes(20, 10));
  probe(30);
  EXPECT_TRUE(receiver.ack_due(now, kHold));
}

// ---- Gaps

TEST_F(ReceiverTest, AsksForAGapAfterTheReorderDelayAndThenMoreAndMoreSeldom) {
  give(bytes(1000, 2000));
  EXPECT_TRUE(missing().empty());
  std::vector<std::int64_t> asked;
  const Instant start = now;
  while (asked.size() < 8) {
    ASSERT_FALSE(receiver.ack_due(now));
    now = receiver.deadline();
    ASSERT_TRUE(receiver.ack_due(now));
    ASSERT_EQ(missing(), (Ranges{bytes(0, 1000)}));
    asked.push_back((now - start).ns / 1000);
  }
  EXPECT_EQ(asked, (std::vector<std::int64_t>{200, 2200, 6200, 14200, 30200, 62200, 126200, 190200}));
  EXPECT_EQ(receiver.counters().requests_sent, 8u);
  give(bytes(0, 1000));
  EXPECT_EQ(receiver.deadline(), kNever);
}

TEST_F(ReceiverTest, AsksForTheRestOfAPartlyFilledGap) {
  give(bytes(3000, 4000));
  give(bytes(1000, 2000), bytes(0, 3000));
  now = now + kReorderDelay;
  EXPECT_EQ(missing(), (Ranges{bytes(0, 1000), bytes(2000, 3000)}));
}

TEST_F(ReceiverTest, AFrameThatWasOnlyOvertakenIsNotAskedFor) {
  give(bytes(1000, 2000));
  now = now + (kReorderDelay - microseconds(1));
  give(bytes(0, 1000));
  now = now + seconds(1);
  EXPECT_TRUE(missing().empty());
}

TEST_F(ReceiverTest, LearnsToWaitLongerWhereFramesComeLate) {
  const auto sent_at = static_cast<std::uint64_t>(now.ns);
  const auto give_sent = [&](LsnRange range, std::uint64_t sent) {
    FrameHeader header;
    header.position = range.begin;
    header.sent_at = sent;
    const Bytes payload = content(range);
    EXPECT_EQ(receiver.on_data(header, {batch_of(range), payload}, now), Verdict::kAccepted);
  };
  give_sent(bytes(1000, 2000), sent_at + 1);
  now = now + milliseconds(1);
  give_sent(bytes(0, 1000), sent_at);  // Sent before what overtook it: no repair.
  give_sent(bytes(3000, 4000), sent_at + 10);
  EXPECT_EQ(receiver.deadline(), now + microseconds(1500));
  now = now + milliseconds(100);
  EXPECT_EQ(missing(), (Ranges{bytes(2000, 3000)}));
  give_sent(bytes(2000, 3000), sent_at + 11);  // A repair teaches nothing.
  give_sent(bytes(5000, 6000), sent_at + 12);
  EXPECT_LT(receiver.deadline(), now + microseconds(1500)) << "and where frames are lost it waits less again";
}

TEST_F(ReceiverTest, AnUnfinishedTailIsAGapOnceItIsKnownToHaveBeenSent) {
  give(bytes(0, 600), bytes(0, 1000));
  now = now + seconds(1);
  EXPECT_TRUE(missing().empty());
  probe(1700);
  EXPECT_EQ(missing(), (Ranges{bytes(600, 1700)})) << "a probe tells of what was sent long enough ago";
  EXPECT_EQ(receiver.sent_end(), at(1700));
}

TEST_F(ReceiverTest, BelievesAProbeOnlyUpToTheWindow) {
  probe(100 * kRingBytes);
  EXPECT_EQ(receiver.sent_end(), receiver.window_end());
  probe(5);
  EXPECT_EQ(receiver.sent_end(), receiver.window_end());
}

TEST_F(ReceiverTest, AsksFor48GapsAtATimeAndForTheRestAtOnce) {
  for (std::uint64_t i = 0; i < 100; ++i) give(bytes(20 * i + 10, 20 * i + 20));
  now = now + kReorderDelay;
  Ranges all;
  std::vector<std::size_t> each;
  while (receiver.ack_due(now)) {
    const Ranges some = missing();
    each.push_back(some.size());
    all.insert(all.end(), some.begin(), some.end());
  }
  EXPECT_EQ(each, (std::vector<std::size_t>{48, 48, 4}));
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(all[i], bytes(20 * i, 20 * i + 10));
}

TEST_F(ReceiverTest, WaitsForARepairThatIsArrivingInsteadOfAskingAgain) {
  give(bytes(100'000, 100'100));
  now = now + kReorderDelay;
  EXPECT_EQ(missing(), (Ranges{bytes(0, 100'000)}));
  now = now + microseconds(1900);
  give(bytes(0, 1000), bytes(0, 100'000));
  now = now + microseconds(200);
  EXPECT_TRUE(missing().empty());
  now = now + microseconds(1800);
  EXPECT_EQ(missing(), (Ranges{bytes(1000, 100'000)}));
}

TEST_F(ReceiverTest, BeforeARepairHasComeAsksAgainForTheFirstGapOnly) {
  give(bytes(1000, 2000));
  give(bytes(3000, 4000));
  now = receiver.deadline();
  EXPECT_EQ(missing(), (Ranges{bytes(0, 1000), bytes(2000, 3000)}));
  for (int i = 0; i < 3; ++i) {
    now = receiver.deadline();
    EXPECT_EQ(missing(), (Ranges{bytes(0, 1000)}));
  }
  give(bytes(0, 1000));
  EXPECT_LE(receiver.deadline(), now + milliseconds(16));
  now = receiver.deadline();
  EXPECT_EQ(missing(), (Ranges{bytes(2000, 3000)})) << "a request that was lost is made again";
}

class RepairTimes : public ReceiverTest {
 protected:
  static constexpr Duration kShort = microseconds(100);

  LsnRange lose() {
    give(bytes(next_ + 1000, next_ + 2000));
    next_ += 2000;
    return bytes(next_ - 2000, next_ - 1000);
  }
  // Something is lost, and arrives so long after it was asked for. How often it was asked for.
  int repair_in(Duration takes) {
    const LsnRange lost = lose();
    now = receiver.deadline();
    const Instant arrives = now + takes;
    int asked = 0;
    for (; receiver.deadline() < arrives; ++asked) {
      now = receiver.deadline();
      EXPECT_EQ(missing(), Ranges{lost});
    }
    now = arrives;
    EXPECT_EQ(give(lost), Verdict::kAccepted);
    receiver.on_released(align_down(receiver.received_end(), 4096));
    return asked;
  }
  // How long it waits after its first request, for nothing lost.
  Duration patience() {
    const LsnRange lost = lose();
    now = receiver.deadline();
    EXPECT_EQ(missing(), Ranges{lost});
    const Duration out = receiver.deadline() - now;
    now = now + kShort;
    give(lost);
    return out;
  }

  std::uint64_t next_ = 0;
};

TEST_F(RepairTimes, AreLearntSoThatNothingIsAskedForTwice) {
  for (const Duration takes : {kShort, milliseconds(1), milliseconds(10), milliseconds(40), milliseconds(150)}) {
    for (int i = 0; i < 30; ++i) (void)repair_in(takes);
    for (int i = 0; i < 30; ++i) EXPECT_EQ(repair_in(takes), 1) << takes.ns;
  }
}

TEST_F(RepairTimes, ThatAreShortLeaveTwoMilliseconds) {
  for (int i = 0; i < 20; ++i) (void)repair_in(milliseconds(50));
  EXPECT_GE(patience(), milliseconds(50));
  for (int i = 0; i < 60; ++i) (void)repair_in(kShort);
  EXPECT_EQ(patience(), milliseconds(2));
}

TEST_F(RepairTimes, ThatGrowAreNoticedAlthoughEveryRequestIsRepeated) {
  for (int i = 0; i < 30; ++i) (void)repair_in(kShort);
  EXPECT_GT(repair_in(milliseconds(30)), 2);
  for (int i = 0; i < 5; ++i) (void)repair_in(milliseconds(30));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(repair_in(milliseconds(30)), 1);
}

TEST_F(RepairTimes, AreWaitedForTwoHundredMillisecondsAtMost) {
  for (int i = 0; i < 30; ++i) (void)repair_in(seconds(2));
  EXPECT_EQ(patience(), milliseconds(200));
}

// One request in three is lost, or what it brought: that says nothing of how long a repair takes.
TEST_F(RepairTimes, AreNotTakenToGrowWhereRequestsAreLost) {
  for (int i = 0; i < 30; ++i) (void)repair_in(kShort);
  for (int i = 0; i < 90; ++i) EXPECT_EQ(repair_in(i % 3 == 0 ? milliseconds(2) + kShort : kShort), i % 3 == 0 ? 2 : 1);
  EXPECT_EQ(patience(), milliseconds(2));
}

// What was lost twice comes last, all in a row.
TEST_F(RepairTimes, AreNotTakenToGrowByABurstOfLosses) {
  for (int i = 0; i < 30; ++i) (void)repair_in(kShort);
  std::vector<LsnRange> lost;
  for (int i = 0; i < 50; ++i) {
    lost.push_back(lose());
    now = now + microseconds(10);
    (void)missing();
  }
  for (int i = 0; i < 50 && receiver.deadline() < now + milliseconds(1); ++i) {
    now = receiver.deadline();
    (void)missing();
  }
  now = now + kShort;
  for (std::size_t i = 1; i < lost.size(); i += 2) give(lost[i]);
  now = now + milliseconds(2);
  (void)missing();
  now = now + kShort;
  for (std::size_t i = 0; i < lost.size(); i += 2) give(lost[i]);
  EXPECT_EQ(patience(), milliseconds(2));
}

TEST_F(ReceiverTest, ForgetsNothingWhereGapsAreBeyondCounting) {
  const std::uint64_t count = 6000;  // Gaps and batches, a byte each.
  for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(give(bytes(2 * i + 1, 2 * i + 2)), Verdict::kAccepted);
  for (int round = 0; receiver.received_end() < at(2 * count) && round < 400; ++round) {
    now = now + milliseconds(1);
    for (const LsnRange& range : missing())
      for (Lsn each = range.begin; each < range.end; each = each + ByteCount{1}) {
        const Verdict verdict = give({each, each + ByteCount{1}});
        ASSERT_TRUE(verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate);
      }
  }
  EXPECT_EQ(receiver.received_end(), at(2 * count));
  EXPECT_EQ(held(bytes(0, 2 * count)), content(bytes(0, 2 * count)));
  now = now + seconds(10);
  EXPECT_TRUE(missing().empty());
}

TEST_F(ReceiverTest, RefusesMoreBatchesThanItRemembersButNeverTheNext) {
  for (std::uint64_t i = 1; i <= 8192; ++i) ASSERT_EQ(give(bytes(i + 1, i + 2)), Verdict::kAccepted);
  EXPECT_EQ(give(bytes(8194, 8195)), Verdict::kBadRange);
  EXPECT_EQ(give(bytes(1, 2)), Verdict::kBadRange);
  EXPECT_EQ(give(bytes(0, 1)), Verdict::kAccepted);
  EXPECT_EQ(give(bytes(1, 2)), Verdict::kAccepted);
  EXPECT_EQ(receiver.received_end(), at(8194));
}

}  // namespace
}  // namespace slipstream::protocol
