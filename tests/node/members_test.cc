#include <gtest/gtest.h>

#include "tests/node/world.h"

// Who is a member, and how a policy changes (Q4, Q5), seen from outside the nodes.
namespace slipstream::node {
namespace {

TEST(Members, AreDurableOnEveryReplicaBeforeTheyCount) {
  World world("ANY 1 (b1, b2)");
  bool early = false;
  world.network.seen = [&](NodeId, NodeId, const protocol::Frame&) {
    for (std::size_t i = 0; i < 2; ++i) {
      if (!world.replica_view(i).counts) continue;
      const auto record = world.replica(i).durable_state().policy;
      early |= record.members.size() != 2 || record.members[i].log_id != LogId{{7, 2 + i}};
    }
  };
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.run(milliseconds(200));
  EXPECT_FALSE(early);
  EXPECT_EQ(world.replica(0).durable_state().policy, world.replica(1).durable_state().policy);
  EXPECT_EQ(world.replica(0).durable_state().policy.text, "ANY 1 (b1, b2)");
}

void restart_with(World& world, const std::string& policy) {
  world.stop_primary();
  world.upstream.events.clear();
  world.connected = false;
  world.run(milliseconds(1));
  world.policy = policy;
  world.start_primary();
  world.connect();
}

TEST(Members, DoNotIncludeAnEmptiedDirectoryBeforeItHoldsWhatWasAcknowledged) {
  for (const bool restarted : {false, true}) {
    World world("ANY 1 (b1, b2)");
    ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
    world.replica(1).stop();
    world.write(200, 40'000);
    world.flush();
    ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(5)));
    const Lsn acknowledged = world.upstream.last.flush;
    // b2's directory is emptied. Restarted, and without b1, the primary does not remember what was acknowledged.
    State empty = first_replica_state(world.members[1], false);
    empty.log_id = LogId{{8, 8}};
    empty.standby_ready = true;
    world.replica(1).disk.state = encode(empty);
    world.replica(1).disk.bytes.clear();
    if (restarted) {
      world.replica(0).stop();
      restart_with(world, world.policy);
    }
    world.replica(1).start(world.now);
    bool early = false;
    const auto is_member = [&] {
      for (const auto& member : world.primary_state().policy.members)
        if (member.log_id == empty.log_id) return true;
      return false;
    };
    ASSERT_TRUE(world.until(
        [&] {
          early |= is_member() && !world.disk_holds(1, acknowledged);
          return is_member();
        },
        seconds(5)));
    EXPECT_FALSE(early) << restarted;
    EXPECT_TRUE(world.until([&] { return world.streaming(1); }));
  }
}

TEST(Members, CountBehindASwitchOfSegmentsWithoutWaitingForARecord) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.commit();
  const Lsn switched = world.wal.switch_segment();
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == switched; }));
  ASSERT_LT(switched, world.wal.end());
  world.run(seconds(1));
  EXPECT_TRUE(world.view().waiting_for.empty()) << world.view().waiting_for[0];  // No commit can end in what is padded.
  restart_with(world, "ANY 2 (b1, b2)");                                         // They count again only when told.
  EXPECT_TRUE(world.until([&] { return world.all_streaming(); }, milliseconds(300)));
  EXPECT_TRUE(world.until([&] { return world.primary_state().policy.text == "ANY 2 (b1, b2)"; }, milliseconds(50)));
  EXPECT_EQ(world.upstream.last.flush, switched);
  world.run(seconds(1));
  EXPECT_TRUE(world.view().waiting_for.empty()) << world.view().waiting_for[0];
}

TEST(Members, CountWithinARecordThatIsNotFlushedWhole) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn last = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == last; }));
  world.stop_primary();
  world.upstream.events.clear();
  world.write(1, 60'000);
  world.policy = "FIRST 1 (b1)";
  world.start_primary();
  const Lsn flushed = align_down(last + ByteCount{30'000}, wal::kPageBytes);
  world.upstream.events.push_back(
      UpstreamConnected{kSystem, TimelineId{1}, kSegmentSize, 150020, flushed, flushed, ""});
  world.streamed_end = flushed;
  EXPECT_TRUE(world.until([&] { return world.all_streaming(); }, milliseconds(300)));
  EXPECT_EQ(world.replica(0).view(world.now).durable_end, last);
}

TEST(Members, AreToldNoPolicyBeforeTheyHoldTheLastRecordBeforeASwitch) {
  World world("ANY 1 (b1)", 2);
  ASSERT_TRUE(world.until([&] { return world.streaming(0) && world.replica_view(1).state == "streaming"; }));
  world.replica(1).disk.hold_writes = true;
  const Lsn acknowledged = world.commit();
  const Lsn switched = world.wal.switch_segment();
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == switched; }));
  world.replica(0).stop();
  world.replica(1).stop();
  world.replica(1).start(world.now);
  ASSERT_LT(world.replica(1).view(world.now).durable_end, acknowledged);
  restart_with(world, "ANY 1 (b2)");
  world.run(milliseconds(500));
  EXPECT_EQ(world.replica_view(1).state, "streaming");
  EXPECT_EQ(world.replica(1).view(world.now).received_end, world.wal.end());
  EXPECT_NE(world.replica(1).durable_state().policy.text, "ANY 1 (b2)");
  world.replica(1).disk.hold_writes = false;
  EXPECT_TRUE(world.until([&] { return world.replica(1).durable_state().policy.text == "ANY 1 (b2)"; }));
  EXPECT_EQ(world.replica(1).view(world.now).durable_end, switched);
}

TEST(Members, WithACopiedDirectoryAreRefused) {
  World world("ANY 2 (b1, b2)");
  State copy = first_replica_state(world.members[1], false);
  copy.log_id = LogId{{7, 2}};
  world.replica(1).disk.state = encode(copy);
  world.replica(1).start(world.now);
  world.run(milliseconds(200));
  EXPECT_TRUE(world.replica_view(0).state == "refused" || world.replica_view(1).state == "refused");
  world.commit();
  world.run(milliseconds(200));
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(PolicyChange, HoldsTheStricterUntilTheNewIsDurableOnReplicasThatSatisfyBoth) {
  World world("ANY 2 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(1).stop();
  restart_with(world, "ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  world.commit();
  world.run(milliseconds(500));
  EXPECT_EQ(world.upstream.last, Report{});  // Two must have acknowledged still.
  ASSERT_EQ(world.view().waiting_for.size(), 1u);
  EXPECT_NE(world.view().waiting_for[0].find("b2 unreachable"), std::string::npos);
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
  ASSERT_TRUE(world.until([&] { return !world.primary_state().pending_policy; }));
  world.replica(1).stop();
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));  // Now one is enough.
  EXPECT_EQ(world.primary_state().policy.text, "ANY 1 (b1, b2)");
}

TEST(PolicyChange, ThatWasNotFinishedHoldsOnWhenAThirdFollows) {
  World world("ANY 1 (b1)", 2);
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).counts; }));
  world.replica(1).stop();
  restart_with(world, "ANY 1 (b2)");
  world.run(milliseconds(300));
  // Taken back. b2 may have promised the second by now: until it is known to hold the third, both hold.
  restart_with(world, "ANY 1 (b1)");
  world.commit();
  world.run(milliseconds(500));
  EXPECT_EQ(world.upstream.last, Report{});
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
  world.replica(1).stop();
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(PolicyChange, OfAWildcardsMembersIsAChangeToo) {
  World world("ANY 1 (*)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  EXPECT_EQ(world.replica(0).durable_state().policy.text, "ANY 1 (\"b1\")");
  world.members.push_back({NodeId{3}, "b2"});
  world.replicas.push_back(std::make_unique<ReplicaHost>(world.network, world.members[1], false, world.now));
  world.replica(0).stop();
  restart_with(world, "ANY 1 (*)");
  world.run(milliseconds(500));
  EXPECT_EQ(world.upstream.last, Report{});  // b1 knows of no b2: it must hear of it first.
  world.replica(0).start(world.now);
  ASSERT_TRUE(world.until(
      [&] { return world.upstream.last.flush == world.wal.end() && !world.primary_state().pending_policy; }));
  EXPECT_EQ(world.replica(0).durable_state().policy.text, "ANY 1 (\"b1\", \"b2\")");
}

}  // namespace
}  // namespace slipstream::node
