#include "protocol/sender.h"

#include <gtest/gtest.h>

namespace slipstream::protocol {
namespace {

constexpr Lsn kBegin{0x100000};
constexpr Duration kHeartbeat = milliseconds(50);
constexpr Instant kStart{1'000'000'000};

Lsn at(std::uint64_t bytes) { return kBegin + ByteCount{bytes}; }
LsnRange bytes(std::uint64_t begin, std::uint64_t end) { return {at(begin), at(end)}; }

class SenderTest : public testing::Test {
 protected:
  void offer(std::uint64_t size) {
    const Lsn begin = sender.offered_end();
    sender.offer({{begin, begin + ByteCount{size}}, begin.value});
  }
  std::vector<Sender::Piece> send(std::size_t payload_bytes_max = 1000) {
    std::vector<Sender::Piece> out;
    while (const auto piece = sender.peek_piece(payload_bytes_max, now)) {
      sender.pop_piece(*piece, now);
      out.push_back(*piece);
    }
    return out;
  }
  Ack ack_of(std::uint64_t received, std::vector<LsnRange> missing = {}) {
    Ack ack;
    ack.received_end = ack.durable_end = at(received);
    ack.window_end = window_end;
    for (const LsnRange& each : missing) ack.missing[ack.missing_count++] = each;
    return ack;
  }
  // An ack of a frame sent `round_trip` ago.
  Ack echo_of(std::uint64_t received, Duration round_trip) {
    Ack ack = ack_of(received);
    ack.echo_sent_at = static_cast<std::uint64_t>((now - Instant{} - round_trip).ns);
    ack.echo_flushed_end = ack.echo_confirmed_end = at(1 << 20);
    return ack;
  }
  // When the next probe goes out, if nothing else happens.
  Duration probe_after() {
    const Instant from = now;
    while (!sender.probe_due(now)) {
      EXPECT_LT(now, sender.deadline());
      now = sender.deadline();
    }
    sender.on_probe_sent(now);
    return now - from;
  }

  Lsn window_end = at(10'000);
  Instant now = kStart;
  Sender sender{kBegin, window_end, kHeartbeat, kStart};
};

TEST_F(SenderTest, CutsPiecesWithinBatchesAndGivesEachItsBatch) {
  offer(1500);
  offer(10);
  const auto pieces = send();
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].range, bytes(0, 1000));
  EXPECT_EQ(pieces[1].range, bytes(1000, 1500));
  EXPECT_EQ(pieces[2].range, bytes(1500, 1510));
  EXPECT_EQ(pieces[1].batch, (Batch{bytes(0, 1500), at(0).value}));
  EXPECT_EQ(pieces[2].batch, (Batch{bytes(1500, 1510), at(1500).value}));
  EXPECT_EQ(sender.sent_end(), at(1510));
}

TEST_F(SenderTest, PeekingConsumesNothing) {
  offer(10);
  EXPECT_EQ(sender.peek_piece(1000, now)->range, bytes(0, 10));
  EXPECT_EQ(sender.peek_piece(4, now)->range, bytes(0, 4));
  EXPECT_EQ(sender.sent_end(), kBegin);
}

TEST_F(SenderTest, SendsNothingAtOrBeyondTheWindowsEnd) {
  offer(9'990);
  EXPECT_TRUE(sender.wants_batch());
  offer(1'000);  // 10 of it fit.
  EXPECT_FALSE(sender.wants_batch());
  send();
  EXPECT_EQ(sender.sent_end(), window_end);
  window_end = at(10'400);
  ASSERT_EQ(sender.on_ack(ack_of(0), now), Verdict::kAccepted);
  window_end = at(10'000);  // It never falls.
  ASSERT_EQ(sender.on_ack(ack_of(0), now), Verdict::kAccepted);
  const auto pieces = send();
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].range, bytes(10'000, 10'400));
  window_end = at(10'990);
  ASSERT_EQ(sender.on_ack(ack_of(0), now), Verdict::kAccepted);
  EXPECT_EQ(send().size(), 1u);
}

TEST_F(SenderTest, KeepsAtMost4096UnacknowledgedBatches) {
  for (int i = 0; i < 4096; ++i) {
    ASSERT_TRUE(sender.wants_batch());
    offer(1);
  }
  EXPECT_FALSE(sender.wants_batch());
  send();
  ASSERT_EQ(sender.on_ack(ack_of(1), now), Verdict::kAccepted);
  EXPECT_TRUE(sender.wants_batch());
  offer(1);
  EXPECT_EQ(send().front().batch.range, bytes(4096, 4097));
}

TEST_F(SenderTest, RefusesAcksOfWhatWasNeverSentAndChangesNothing) {
  offer(3000);
  send();
  offer(1000);
  Ack ack = ack_of(3001, {bytes(0, 1000)});
  EXPECT_EQ(sender.on_ack(ack, now), Verdict::kBadAck);
  ack = ack_of(1000, {bytes(1000, 2000)});
  ack.durable_end = at(1001);
  EXPECT_EQ(sender.on_ack(ack, now), Verdict::kBadAck);
  ack = ack_of(1000, {bytes(1000, 2000)});
  ack.final_end = at(1001);
  EXPECT_EQ(sender.on_ack(ack, now), Verdict::kBadAck);
  ack = ack_of(1000, {bytes(1000, 2000)});
  ack.echo_sent_at = static_cast<std::uint64_t>(now.ns) + 1;
  EXPECT_EQ(sender.on_ack(ack, now), Verdict::kBadAck);
  EXPECT_EQ(sender.received_end(), kBegin);
  EXPECT_EQ(sender.peek_piece(1000, now)->range, bytes(3000, 4000)) << "no repair came of it";
}

TEST_F(SenderTest, AnOvertakenAckChangesNothing) {
  offer(5000);
  send();
  ASSERT_EQ(sender.on_ack(ack_of(3000), now), Verdict::kAccepted);
  window_end = at(20'000);
  EXPECT_EQ(sender.on_ack(ack_of(2000, {bytes(2000, 5000)}), now), Verdict::kDuplicate);
  EXPECT_EQ(sender.received_end(), at(3000));
  EXPECT_FALSE(sender.peek_piece(1000, now));
  // Its end alone does not tell, its echo does.
  now = now + milliseconds(5);
  Ack newer = echo_of(3000, milliseconds(1)), older = echo_of(3000, milliseconds(2));
  older.missing[older.missing_count++] = bytes(3000, 4000);
  ASSERT_EQ(sender.on_ack(newer, now), Verdict::kAccepted);
  EXPECT_EQ(sender.on_ack(older, now), Verdict::kDuplicate);
  EXPECT_FALSE(sender.peek_piece(1000, now));
}

TEST_F(SenderTest, AnAckOfLessByWhoHasHeardMoreIsAnotherReceivers) {
  offer(5000);
  send();
  now = now + milliseconds(5);
  ASSERT_EQ(sender.on_ack(echo_of(3000, milliseconds(2)), now), Verdict::kAccepted);
  EXPECT_EQ(sender.on_ack(echo_of(2000, milliseconds(2)), now), Verdict::kDuplicate);
  EXPECT_EQ(sender.on_ack(echo_of(2000, milliseconds(1)), now), Verdict::kOtherSession);
  EXPECT_EQ(sender.received_end(), at(3000));
}

TEST_F(SenderTest, RepeatsWhatIsMissingFirstAndOnlyWhatWasSentAndIsNotAcknowledged) {
  offer(3000);
  send();
  offer(1000);
  ASSERT_EQ(sender.on_ack(ack_of(1000, {bytes(500, 1200), bytes(2900, 9000)}), now), Verdict::kAccepted);
  const auto pieces = send();
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].range, bytes(1000, 1200));
  EXPECT_TRUE(pieces[0].repair);
  EXPECT_EQ(pieces[0].batch.range, bytes(0, 3000));
  EXPECT_EQ(pieces[1].range, bytes(2900, 3000));
  EXPECT_EQ(pieces[2].range, bytes(3000, 4000));
  EXPECT_FALSE(pieces[2].repair);
  EXPECT_EQ(sender.counters().bytes_resent, 300u);
  EXPECT_EQ(sender.counters().bytes_sent, 4300u);
  EXPECT_EQ(sender.counters().frames_sent, 6u);
}

TEST_F(SenderTest, ForgetsARepairThatAnAckOvertook) {
  offer(3000);
  send();
  ASSERT_EQ(sender.on_ack(ack_of(0, {bytes(0, 2000)}), now), Verdict::kAccepted);
  ASSERT_EQ(sender.on_ack(ack_of(1500), now), Verdict::kAccepted);
  const auto pieces = send();
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].range, bytes(1500, 2000));
}

TEST_F(SenderTest, RepeatsARangeAtMostOncePerRoundTrip) {
  offer(8000);
  send();
  now = now + milliseconds(4);
  ASSERT_EQ(sender.on_ack(echo_of(0, milliseconds(4)), now), Verdict::kAccepted);
  std::size_t repeats = 0;
  const Instant end = now + milliseconds(40);
  for (; now < end; now = now + microseconds(100)) {
    ASSERT_EQ(sender.on_ack(ack_of(0, {bytes(0, 1000)}), now), Verdict::kDuplicate)
        << "without the newest echo it is old";
    Ack ack = echo_of(0, milliseconds(4));
    ack.missing[ack.missing_count++] = bytes(0, 1000);
    ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
    repeats += send().size();
  }
  EXPECT_GE(repeats, 6u);
  EXPECT_LE(repeats, 10u);
}

TEST_F(SenderTest, MeasuresTheRoundTripWithoutTheReceiversDelay) {
  offer(10);
  send();
  now = now + milliseconds(5);
  Ack ack = echo_of(10, milliseconds(5));
  ack.echo_delay = static_cast<std::uint64_t>(milliseconds(3).ns);
  ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
  EXPECT_EQ(sender.round_trip().smoothed(), milliseconds(2));
  // A delay that cannot be is not believed.
  now = now + milliseconds(5);
  ack = echo_of(10, milliseconds(1));
  ack.echo_delay = ~std::uint64_t{0};
  ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
  EXPECT_EQ(sender.round_trip().smoothed(), milliseconds(2));
}

TEST_F(SenderTest, ProbesForAnUnacknowledgedTailDoublingTo200Milliseconds) {
  offer(10);
  send();
  EXPECT_EQ(probe_after(), milliseconds(10)) << "before the first sample";
  EXPECT_EQ(probe_after(), milliseconds(20));
  EXPECT_EQ(probe_after(), milliseconds(40));
  EXPECT_EQ(probe_after(), kHeartbeat) << "the heartbeat goes on";
  EXPECT_EQ(sender.counters().probes_sent, 4u);
  Sender slow{kBegin, window_end, seconds(10), now};
  slow.offer({bytes(0, 10), 0});
  slow.pop_piece(*slow.peek_piece(1000, now), now);
  Instant last = now;
  std::vector<std::int64_t> waits;
  for (int i = 0; i < 7; ++i) {
    const Instant due = slow.deadline();
    waits.push_back((due - last).ns / 1'000'000);
    slow.on_probe_sent(last = due);
  }
  EXPECT_EQ(waits, (std::vector<std::int64_t>{10, 20, 40, 80, 160, 200, 200}));
}

TEST_F(SenderTest, ProbesAtOnceWithNewsThatNoDataCarriesAndAgainUntilItIsEchoed) {
  EXPECT_FALSE(sender.probe_due(now));
  sender.on_news(at(100), at(50), {}, now);
  EXPECT_TRUE(sender.probe_due(now));
  sender.on_probe_sent(now);
  EXPECT_FALSE(sender.probe_due(now));
  EXPECT_EQ(probe_after(), milliseconds(10));
  EXPECT_EQ(probe_after(), milliseconds(20));
  ASSERT_EQ(sender.on_ack(echo_of(0, milliseconds(1)), now), Verdict::kAccepted);
  EXPECT_EQ(probe_after(), kHeartbeat) << "it was echoed";
  sender.on_news(at(100), at(50), {}, now);
  EXPECT_FALSE(sender.probe_due(now)) << "that is no news";
}

TEST_F(SenderTest, NewsThatDataCarriesNeedsNoProbe) {
  offer(10);
  sender.on_news(at(100), at(50), {}, now);
  send();
  EXPECT_FALSE(sender.probe_due(now));
}

TEST_F(SenderTest, HeldNewsGoOutByThemselvesAfterTheHold) {
  sender.on_news(at(100), at(50), milliseconds(1), now);
  EXPECT_FALSE(sender.probe_due(now));
  now = now + microseconds(400);
  sender.on_news(at(200), at(100), milliseconds(1), now);  // Does not put the first ones off.
  EXPECT_EQ(sender.deadline(), kStart + milliseconds(1));
  EXPECT_FALSE(sender.probe_due(kStart + microseconds(999)));
  now = kStart + milliseconds(1);
  EXPECT_TRUE(sender.probe_due(now));
  sender.on_probe_sent(now);
  EXPECT_FALSE(sender.probe_due(now));
  sender.on_news(at(300), at(200), milliseconds(1), now);
  EXPECT_EQ(sender.deadline(), now + milliseconds(1)) << "a hold of its own";
}

TEST_F(SenderTest, HeldNewsGoOutAtOnceWithSomeThatAreNotHeld) {
  sender.on_news(at(100), at(50), milliseconds(1), now);
  sender.on_news(at(100), at(100), {}, now);
  EXPECT_TRUE(sender.probe_due(now));
}

TEST_F(SenderTest, HeldNewsAreCarriedByDataAndRepeatedUntilTheyAreEchoed) {
  sender.on_news(at(100), at(50), milliseconds(1), now);
  now = now + microseconds(500);
  offer(10);
  send();
  EXPECT_EQ(sender.deadline(), now + milliseconds(10)) << "no news of their own, but the tail's probe";
  now = now + milliseconds(2);
  Ack ack = echo_of(10, milliseconds(2));
  ack.echo_flushed_end = at(100), ack.echo_confirmed_end = at(0);
  ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
  EXPECT_LT(probe_after(), kHeartbeat) << "the data came, but not what it carried";
  now = now + milliseconds(1);
  ack = echo_of(10, milliseconds(1));
  ack.echo_flushed_end = at(100), ack.echo_confirmed_end = at(50);
  ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
  EXPECT_EQ(probe_after() + milliseconds(1), kHeartbeat);
}

TEST_F(SenderTest, NewsAreNotRepeatedWhileTheyAreHeld) {
  sender.on_news(at(100), at(100), {}, now);
  sender.on_probe_sent(now);
  now = now + milliseconds(1);
  Ack ack = echo_of(0, milliseconds(1));
  ack.echo_flushed_end = ack.echo_confirmed_end = at(100);
  ASSERT_EQ(sender.on_ack(ack, now), Verdict::kAccepted);
  sender.on_news(at(200), at(200), milliseconds(20), now);
  EXPECT_EQ(sender.deadline(), now + milliseconds(20)) << "nobody can have heard of them";
}

TEST_F(SenderTest, MuchNewsDoesNotMakeTheTailsProbeLate) {
  for (std::uint64_t i = 1; i < 20; ++i) {
    sender.on_news(at(i), at(i), {}, now);
    sender.on_probe_sent(now);
    now = now + milliseconds(1);
    ASSERT_EQ(sender.on_ack(echo_of(0, milliseconds(1)), now), Verdict::kAccepted);
  }
  offer(10);
  send();
  EXPECT_LE(probe_after(), milliseconds(2));
}

TEST_F(SenderTest, ProbesWhileTheWindowIsShut) {
  offer(10'000);
  send();
  now = now + milliseconds(1);
  ASSERT_EQ(sender.on_ack(echo_of(10'000, milliseconds(1)), now), Verdict::kAccepted);
  EXPECT_LE(probe_after(), milliseconds(4));
  window_end = at(20'000);
  ASSERT_EQ(sender.on_ack(echo_of(10'000, {}), now), Verdict::kAccepted);
  EXPECT_EQ(probe_after(), kHeartbeat);
}

TEST_F(SenderTest, AProbeTellsOfATailOnceItWasOvertakenOrLost) {
  offer(1000);
  send();
  sender.on_news(at(1000), at(1000), {}, now);
  EXPECT_EQ(sender.probe_end(now), at(0)) << "news may go out just behind the data";
  now = now + kReorderAllowance;
  EXPECT_EQ(sender.probe_end(now), at(1000));
  offer(1000);
  send();
  EXPECT_EQ(sender.on_ack(ack_of(1000), now), Verdict::kAccepted);
  EXPECT_EQ(sender.probe_end(now), at(1000));
}

TEST_F(SenderTest, SendsAHeartbeatWhenNothingHappens) {
  EXPECT_EQ(probe_after(), kHeartbeat);
  EXPECT_EQ(probe_after(), kHeartbeat);
}

}  // namespace
}  // namespace slipstream::protocol
