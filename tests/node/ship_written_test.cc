#include "tests/node/hand_driven.h"

// What of PostgreSQL's WAL goes out before its flush, and what is said of it.
namespace slipstream::node {
namespace {

class ShipWritten : public HandDriven {
 protected:
  void begin(bool ship_written, bool all_flushed = true, std::optional<Lsn> stale_end = {}) {
    start(ship_written);
    hold(kLogBegin);
    connect(all_flushed, stale_end);
    run();
    ASSERT_EQ(state(), "streaming") << reason();
    ASSERT_EQ(held_end(), wal.end());
  }
  void expect_not_ahead() {
    const Lsn before = held_end(), end = record();
    run();
    EXPECT_EQ(held_end(), before);
    EXPECT_EQ(upstream.last.flush, before);
    flush();
    run();
    EXPECT_EQ(held_end(), end);
    EXPECT_EQ(upstream.last.flush, end);
  }
};

TEST_F(ShipWritten, IsReportedOnceItIsHeldThoughItIsNotFlushed) {
  begin(true);
  const Lsn flushed = wal.end();
  for (int i = 0; i < 20; ++i) {
    const Lsn end = record(100 + 700 * static_cast<std::size_t>(i % 4));
    run(milliseconds(2));
    ASSERT_EQ(held_end(), end);
    ASSERT_EQ(upstream.last.flush, end);
  }
  EXPECT_TRUE(holds_the_wal());
  EXPECT_EQ(confirmed_told, flushed);
  EXPECT_EQ(primary->snapshot(now).primary.confirmed_end, flushed);
  flush();
  run();
  EXPECT_EQ(confirmed_told, wal.end());
  EXPECT_EQ(upstream.reconnects, 0);
}

TEST_F(ShipWritten, IsNotReportedBeforeItIsHeld) {
  begin(true);
  const Lsn before = wal.end();
  port.connected = false;
  record();
  run();
  EXPECT_EQ(upstream.last.flush, before);
}

TEST_F(ShipWritten, GoesOutOnlyIfThatIsAskedFor) {
  begin(false);
  expect_not_ahead();
}

TEST_F(ShipWritten, GoesOutOnlyIfAllWasFlushedBefore) {
  begin(true, false);
  expect_not_ahead();
}

TEST_F(ShipWritten, GoesOutOnlyBeyondTheStalePages) {
  const Lsn stale_end = wal.end() + ByteCount{300};
  begin(true, true, stale_end);
  expect_not_ahead();  // To a little below.
  ASSERT_LT(wal.end(), stale_end);
  expect_not_ahead();
  ASSERT_GE(flushed_end, stale_end);
  const Lsn end = record();
  run();
  EXPECT_EQ(held_end(), end);
}

TEST_F(ShipWritten, GoesOutNoMoreOnceTheConnectionIsLost) {
  begin(true);
  const Lsn before = record();
  run();
  ASSERT_EQ(held_end(), before);
  upstream.events.push_back(UpstreamLost{});
  record();  // Read already, perhaps, when the loss is heard of.
  run();
  EXPECT_EQ(held_end(), before);
  record();
  run();
  EXPECT_EQ(held_end(), before);
  EXPECT_EQ(upstream.last.flush, before);
  connect();
  run();
  EXPECT_EQ(held_end(), wal.end());
  const Lsn end = record();
  run();
  EXPECT_EQ(held_end(), end);
}

TEST_F(ShipWritten, IsNotTakenFromAReadThatWasUnderWayWhenTheConnectionWasLost) {
  begin(true);
  const Lsn before = held_end();
  record();
  const auto read = primary->next_read();
  ASSERT_TRUE(read);
  ASSERT_TRUE(disk.submit_read(*read));
  upstream.events.push_back(UpstreamLost{});
  run();
  EXPECT_EQ(held_end(), before);
}

// The replica is told of no byte as confirmed that PostgreSQL's own stream did not have. (turn() looks at every frame.)
TEST_F(ShipWritten, IsNeverCalledConfirmedIfTheStreamHasOtherBytes) {
  begin(true);
  const Lsn before = wal.end(), end = record();
  run();
  ASSERT_EQ(held_end(), end);
  flush(true);
  run();
  EXPECT_EQ(upstream.reconnects, 1);
  EXPECT_EQ(confirmed_told, before);
  record();
  run();
  EXPECT_EQ(held_end(), end) << "nothing more goes ahead";
  upstream.events.push_back(UpstreamLost{});
  connect();
  run();
  EXPECT_EQ(held_end(), wal.end());
  EXPECT_EQ(confirmed_told, wal.end());
}

}  // namespace
}  // namespace slipstream::node
