#include <gtest/gtest.h>

#include "tests/node/world.h"

// What WAL the primary's slot and a replica keep, and what becomes of it.
namespace slipstream::node {
namespace {

TEST(Retention, AdvanceTheSlotToTheLeastFinalEnd) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.slot == first; }));
  world.replica(1).stop();
  const Lsn second = world.commit();
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).final_end == second; }));
  world.run(milliseconds(50));
  EXPECT_EQ(world.upstream.slot, first);
}

TEST(Retention, AdvanceTheSlotWithoutAReplicaThatWasNeverMet) {
  for (const char* policy : {"ANY 1 (b1, b2)", "ANY 1 (b1)"}) {
    World world(policy);
    world.replica(1).stop();
    ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
    const Lsn first = world.commit();
    EXPECT_TRUE(world.until([&] { return world.upstream.slot == first; })) << policy;
    EXPECT_FALSE(world.replica_view(1).kept_by_slot);
    // From when it is met on it is waited for, also when it is slow.
    world.replica(1).disk.hold_writes = true;
    const Lsn second = world.commit();
    world.replica(1).start(world.now);
    ASSERT_TRUE(world.until([&] { return world.replica_view(1).state == "streaming"; })) << policy;
    world.run(milliseconds(1500));
    EXPECT_LT(world.upstream.slot, first) << policy;
    EXPECT_FALSE(world.replica_view(1).kept_by_slot) << policy << ": the slot may have passed what it lacks";
    world.replica(1).disk.hold_writes = false;
    EXPECT_TRUE(world.until([&] { return world.upstream.slot == second; })) << policy;
    EXPECT_TRUE(world.replica_view(1).kept_by_slot) << policy;
  }
}

TEST(Retention, LeaveTheSlotAloneAfterARestartUntilAllThatWereMetAreHeard) {
  for (const char* policy : {"ANY 1 (b1, b2)", "ANY 1 (b1)"}) {
    World world(policy);
    ASSERT_TRUE(world.until([&] { return world.streaming(0) && world.replica_view(1).kept_by_slot; }));
    world.replica(1).stop();
    world.stop_primary();
    world.upstream.events.clear();
    world.start_primary();
    world.connect();
    ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
    const Lsn end = world.commit();
    ASSERT_TRUE(world.until([&] { return world.replica_view(0).final_end == end; })) << policy;
    world.run(milliseconds(50));
    EXPECT_EQ(world.upstream.slot, Lsn{}) << policy;
    world.replica(1).start(world.now);
    EXPECT_TRUE(world.until([&] { return world.upstream.slot == end; })) << policy;
  }
}

TEST(Retention, LeaveTheSlotAloneForWhomeverALostOrOlderStateMayHaveMet) {
  for (const bool lost : {false, true}) {
    World world("ANY 1 (b1)", 2);
    ASSERT_TRUE(world.until([&] { return world.streaming(0) && world.replica_view(1).kept_by_slot; }));
    world.replica(1).stop();
    world.stop_primary();
    world.upstream.events.clear();
    State state = lost ? first_primary_state(Identity{{5, 5}}) : world.primary_state();
    if (lost) state.own_epoch = {2, 0};
    state.met.clear();
    world.primary_disk.state = encode(state);
    for (const bool again : {false, true}) {
      world.start_primary();
      world.connect();
      ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
      const Lsn end = world.commit();
      ASSERT_TRUE(world.until([&] { return world.replica_view(0).final_end == end; }));
      world.run(milliseconds(50));
      EXPECT_EQ(world.upstream.slot, Lsn{}) << lost << again;
      world.stop_primary();
      world.upstream.events.clear();
    }
  }
}

TEST(Retention, LeaveTheSlotAloneUntilItIsDurableWhoWasMet) {
  World world("ANY 1 (b1)");
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.slot == first; }));
  world.primary_disk.hold_persists = true;
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.replica_view(1).state == "streaming"; }));
  world.run(milliseconds(1500));
  EXPECT_EQ(world.replica_view(1).final_end, first);
  EXPECT_FALSE(world.replica_view(1).kept_by_slot);
  EXPECT_EQ(world.upstream.slot, Lsn{});
  world.primary_disk.hold_persists = false;
  EXPECT_TRUE(world.until([&] { return world.upstream.slot == first && world.replica_view(1).kept_by_slot; }));
}

TEST(Retention, NameTheWalThatIsGone) {
  World world("ANY 1 (b1)");
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  world.write(300, 40'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(10)));
  world.primary_disk.gone_below = kLogBegin + ByteCount{2u << 20};
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.replica_view(1).state == "refused"; }));
  EXPECT_NE(world.replica_view(1).reason.find("the WAL you need is gone"), std::string::npos)
      << world.replica_view(1).reason;
  ASSERT_TRUE(world.until([&] { return world.replica(1).view(world.now).state == "refused"; }));
  EXPECT_NE(world.replica(1).view(world.now).reason.find("the WAL you need is gone"), std::string::npos);
  // Restored, it goes on by itself.
  world.primary_disk.gone_below = {};
  EXPECT_TRUE(world.until([&] { return world.replica_view(1).state == "streaming"; }, seconds(10)));
}

TEST(Retention, CompareWithoutTheFinalWalThatThePrimaryRemoved) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.write(120, 30'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(5)));
  world.run(milliseconds(1500));  // final_end is persisted.
  world.primary_disk.gone_below = align_down(world.wal.end(), 1u << 20);
  world.replica(0).stop();
  world.replica(0).start(world.now);
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(Retention, KnowAfterAnOrderlyStopAllThatWasDurable) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  ReplicaHost& host = world.replica(0);
  EXPECT_FALSE(host.node->settle()) << "the positions are not on disk yet";
  ASSERT_TRUE(world.until([&] { return host.node->settle(); }, milliseconds(20)));
  const State state = host.durable_state();
  EXPECT_TRUE(state.scan_begin_is_record);
  EXPECT_EQ(state.scan_begin, world.wal.previous()) << "the last record's begin";
  EXPECT_EQ(state.final_end, world.replica(0).view(world.now).final_end);
}

TEST(Retention, RemoveNoWalWhileASessionIsBeingOpened) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.write(120, 30'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(5)));
  world.run(milliseconds(1500));
  // The answers to its Welcome are lost: it stays where it told the primary where its log begins.
  world.network.drop = [](NodeId, NodeId to, const protocol::Frame& frame) {
    return to != kPrimaryId && !std::holds_alternative<protocol::Hello>(frame.body);
  };
  world.lose_connection();
  world.connect();
  ReplicaNode& node = *world.replica(0).node;
  ASSERT_TRUE(world.until([&] { return node.snapshot(world.now).replica.state == "comparing"; }));
  node.raise_log_begin(Lsn{UINT64_MAX >> 1});
  world.run(milliseconds(5));
  EXPECT_EQ(node.log_begin(), kLogBegin);
  world.network.drop = nullptr;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }, seconds(5)));
  node.raise_log_begin(Lsn{UINT64_MAX >> 1});
  world.run(milliseconds(5));
  EXPECT_GT(node.log_begin(), kLogBegin);
}

TEST(Retention, RemoveNoWalThatRecoveryOrTheStandbyNeeds) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.write(120, 30'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(5)));
  ReplicaNode& node = *world.replica(0).node;
  world.run(milliseconds(1500));
  node.raise_log_begin(Lsn{UINT64_MAX >> 1});
  world.run(milliseconds(5));
  EXPECT_GT(node.log_begin(), kLogBegin);
  EXPECT_LE(node.log_begin(), world.replica(0).durable_state().scan_begin);
  EXPECT_EQ(node.log_begin(), world.replica(0).durable_state().log_begin);
}

}  // namespace
}  // namespace slipstream::node
