#include "tests/node/hand_driven.h"

// A primary that finds bytes of an earlier life of PostgreSQL at the end of a replica's log has them cut, exactly (E4).
namespace slipstream::node {
namespace {

constexpr std::size_t kBlock = wal::kBlockBytes;

class Cutting : public HandDriven {
 protected:
  Cutting() {
    start(true);
    while (wal.end() < kLogBegin + ByteCount{3 * kBlock}) wal.record(1000);
    write();
  }
  void differ_from(Lsn at) {
    for (Lsn p = at; p < held_end(); p = p + ByteCount{1 + p.value % 7}) held_at(p) ^= std::byte{1};
  }
  void expect_cut(Lsn from) {
    const Lsn old_end = held_end();
    connect();
    run();
    ASSERT_TRUE(cut.has_value()) << state() << ": " << reason();
    EXPECT_EQ(*cut, (protocol::Cut{from, old_end}));
    EXPECT_FALSE(refused.has_value());
  }
  // What is left is adopted in a new handshake, and the rest shipped.
  void expect_streaming() {
    run(milliseconds(300));
    EXPECT_EQ(adopted, std::optional(cut->from));
    const Lsn end = record();
    flush();
    run();
    EXPECT_EQ(state(), "streaming") << reason();
    EXPECT_EQ(held_end(), end);
    EXPECT_TRUE(holds_the_wal());
    EXPECT_EQ(upstream.last.flush, end);
  }
  void expect_refused(protocol::RefuseReason reason, const std::string& text) {
    run(milliseconds(300));
    EXPECT_FALSE(cut.has_value());
    EXPECT_FALSE(adopted.has_value());
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->reason, reason) << refused->text;
    EXPECT_NE(refused->text.find(text), std::string::npos) << refused->text;
    EXPECT_EQ(state(), "refused");
  }
};

TEST_F(Cutting, ALogThatReachesBeyondIsCutWhereTheServersEnds) {
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  expect_cut(wal.end());
  expect_streaming();
}

TEST_F(Cutting, ALogThatReachesBeyondIsRefusedUnlessAllThatWasWrittenIsFlushed) {
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  connect(false);
  expect_refused(protocol::RefuseReason::kPrimaryBehind, "it lost flushed WAL");
}

// There was nothing to lose but what had been flushed, and perhaps acknowledged.
TEST_F(Cutting, IsRefusedWhereNothingGoesAhead) {
  start(false);
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  connect();
  expect_refused(protocol::RefuseReason::kPrimaryBehind, "it lost flushed WAL");
}

TEST_F(Cutting, ALogThatIsFinalBeyondIsRefused) {
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  final_end = wal.end() + ByteCount{1};
  connect();
  expect_refused(protocol::RefuseReason::kPrimaryBehind, "Promote b1 instead");
}

TEST_F(Cutting, IsAtTheFirstByteThatDiffers) {
  hold(wal.end());
  const Lsn at = kLogBegin + ByteCount{kBlock + 12'345};
  final_end = kLogBegin + ByteCount{kBlock + 12'000};  // In the same block.
  differ_from(at);
  expect_cut(at);
  expect_streaming();
}

TEST_F(Cutting, IsAtTheFirstByteThatDiffersAlsoIfTheLogReachesBeyond) {
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  const Lsn at{wal.end().value - 1};
  differ_from(at);
  expect_cut(at);
  expect_streaming();
}

TEST_F(Cutting, MayTakeAllThatIsNotFinal) {
  hold(wal.end());
  final_end = kLogBegin + ByteCount{2 * kBlock};
  differ_from(final_end);
  expect_cut(final_end);
  expect_streaming();
}

TEST_F(Cutting, IsRefusedUnlessAllThatWasWrittenIsFlushed) {
  hold(wal.end());
  differ_from(kLogBegin + ByteCount{kBlock + 5});
  connect(false);
  expect_refused(protocol::RefuseReason::kDivergent, "hold different bytes in [0/310000, 0/320000)");
}

// All that it holds was compared, or came from here, over this connection: the difference is nobody's lost WAL.
TEST_F(Cutting, IsRefusedInAnEpochThatTheReplicaHolds) {
  hold(wal.end());
  connect();
  run();
  ASSERT_EQ(state(), "streaming") << reason();
  differ_from(Lsn{wal.end().value - 100});
  say(protocol::Refuse{protocol::RefuseReason::kNoSession, heard.epoch, {}, "a restart since"});
  expect_refused(protocol::RefuseReason::kDivergent, "hold different bytes");
}

TEST_F(Cutting, IsRefusedBelowWhatIsFinal) {
  hold(wal.end());
  final_end = kLogBegin + ByteCount{2 * kBlock};
  differ_from(kLogBegin + ByteCount{kBlock + 5});
  connect();
  expect_refused(protocol::RefuseReason::kDivergent, ", below what was final");
}

TEST_F(Cutting, IsRefusedBelowWhatIsFinalInTheSameBlock) {
  hold(wal.end());
  final_end = kLogBegin + ByteCount{kBlock + 6};
  differ_from(kLogBegin + ByteCount{kBlock + 5});
  connect();
  expect_refused(protocol::RefuseReason::kDivergent, ", below what was final");
}

// Its state file may be a second older than what it has told.
TEST_F(Cutting, IsRefusedBelowWhatWasFinalWhenItWasLastHeard) {
  hold(wal.end());
  connect();
  final_end = wal.end();
  run();
  ASSERT_EQ(state(), "streaming");
  upstream.events.push_back(UpstreamLost{});
  final_end = kLogBegin;
  differ_from(kLogBegin + ByteCount{kBlock + 5});
  connect();
  expect_refused(protocol::RefuseReason::kDivergent, ", below what was final");
}

TEST_F(Cutting, IsToldAgainUntilItIsObeyed) {
  hold(wal.end());
  held.resize(held.size() + 5000, std::byte{0x33});
  obeys_cuts = false;
  expect_cut(wal.end());
  EXPECT_EQ(state(), "cutting");
  EXPECT_NE(reason().find("is being cut off"), std::string::npos) << reason();
  cut.reset();
  run(milliseconds(110));
  EXPECT_TRUE(cut.has_value());
  EXPECT_FALSE(adopted.has_value());
  EXPECT_EQ(upstream.last.flush, Lsn{}) << "it does not count";
  obeys_cuts = true;
  expect_streaming();
}

}  // namespace
}  // namespace slipstream::node
