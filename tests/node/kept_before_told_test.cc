#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/node/world.h"

// What the simulator once found, small enough to read.
namespace slipstream::node {
namespace {

void resend(World& world, NodeId to, const protocol::Frame& frame) {
  Network::Wire bytes(kHeadBytesMax);
  bytes.resize(protocol::encode(frame.header, frame.body, bytes));
  world.network.send(kPrimaryId, to, std::move(bytes));
}

TEST(KeptBeforeTold, ALateHelloOfAnEarlierEpochDoesNotTakeThePlaceOfTheSessionBeingOpened) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  std::optional<protocol::Frame> late;
  world.network.seen = [&](NodeId, NodeId, const protocol::Frame& frame) {
    if (std::holds_alternative<protocol::Hello>(frame.body) && !late) late = frame;
  };
  world.network.drop = [](NodeId, NodeId, const protocol::Frame& frame) {
    return std::holds_alternative<protocol::Adopt>(frame.body);
  };
  world.lose_connection(), world.connect();
  ASSERT_TRUE(world.until([&] { return late.has_value(); }));
  world.lose_connection(), world.connect();
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).state == "handshake"; }));
  world.run(milliseconds(50));
  resend(world, world.members[0].id, *late);
  world.run(milliseconds(50));
  world.network.drop = nullptr;
  EXPECT_TRUE(world.until([&] { return world.all_streaming(); })) << world.replica_view(0).state;
}

// With its adoption: repeated_greeting_test.
TEST(KeptBeforeTold, ALateHelloOfTheSessionFromBeforeARestartHoldsNothingUp) {
  World world("ANY 1 (b1)", 1);
  std::optional<protocol::Frame> late;
  world.network.seen = [&](NodeId, NodeId, const protocol::Frame& frame) {
    if (std::holds_alternative<protocol::Hello>(frame.body)) late = frame;
  };
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.network.seen = nullptr;
  ReplicaHost& host = world.replica(0);
  host.stop(), host.start(world.now);
  resend(world, host.member.id, *late);
  host.step_once(world.now);
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; })) << host.view(world.now).state;
}

TEST(KeptBeforeTold, ABatchThatAnotherLifeOfThePrimaryCutInAnotherWayHoldsNothingUp) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  bool replaced = false;
  world.network.drop = [&](NodeId, NodeId to, const protocol::Frame& frame) {
    const auto* data = std::get_if<protocol::Data>(&frame.body);
    if (!data || std::exchange(replaced, true)) return false;
    protocol::Batch other = data->batch;
    other.range.end = other.range.end + ByteCount{8};
    Network::Wire bytes(protocol::kDataHeaderBytes + data->payload.size());
    protocol::encode_data_head(frame.header, other, data->payload.size(), bytes);
    std::ranges::copy(data->payload, bytes.begin() + protocol::kDataHeaderBytes);
    world.network.inject(to, std::move(bytes));
    return true;
  };
  world.commit();
  world.run(milliseconds(10));
  ASSERT_TRUE(replaced);
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(KeptBeforeTold, AfterARestartNoSessionIsOpenedInAnEpochBeforeTheOneThatWasAdopted) {
  World world("ANY 1 (b1)", 1);
  std::optional<protocol::Frame> late;
  bool welcomed = false;
  world.network.seen = [&](NodeId, NodeId, const protocol::Frame& frame) {
    if (std::holds_alternative<protocol::Hello>(frame.body) && !late) late = frame;
    welcomed |= std::holds_alternative<protocol::Welcome>(frame.body);
  };
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.lose_connection(), world.connect();
  ASSERT_TRUE(world.until([&] { return world.view().epoch > late->header.epoch && world.all_streaming(); }));
  world.stop_primary();
  world.replica(0).stop(), world.replica(0).start(world.now);
  welcomed = false;
  resend(world, world.members[0].id, *late);
  world.run(milliseconds(50));
  EXPECT_FALSE(welcomed);
}

TEST(KeptBeforeTold, ANewPolicyIsToldOnlyToALogThatHoldsWhatTheOldOneCommitted) {
  World world("ANY 1 (b1, b2)", 2);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(1).port.connected = false;
  const Lsn commit = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush >= commit; }));
  world.stop_primary();
  world.policy = "ANY 2 (b1, b2)";
  const NodeId behind = world.members[1].id;
  world.network.drop = [&](NodeId, NodeId to, const protocol::Frame& frame) {
    return to == behind && std::holds_alternative<protocol::Data>(frame.body);
  };
  world.replica(1).port.connected = true;
  world.start_primary();
  world.upstream.events.clear();
  world.connect();
  world.run(milliseconds(500));
  EXPECT_LT(world.replica(1).view(world.now).durable_end, commit);
  EXPECT_EQ(world.replica(0).durable_state().policy.text, "ANY 2 (b1, b2)");
  EXPECT_EQ(world.replica(1).durable_state().policy.text, "ANY 1 (b1, b2)")
      << "alone it would be a recovery set by the new policy, and it lacks the commit";
  world.network.drop = nullptr;
  EXPECT_TRUE(world.until([&] { return world.replica(1).durable_state().policy.text == "ANY 2 (b1, b2)"; }));
}

TEST(KeptBeforeTold, AFinalEndThatIsToldSurvivesACrash) {
  World world("ANY 1 (b1)", 1);
  Lsn most{};
  world.network.seen = [&](NodeId from, NodeId, const protocol::Frame& frame) {
    const auto* ack = std::get_if<protocol::Ack>(&frame.body);
    if (!ack || from == kPrimaryId) return;
    most = std::max(most, ack->final_end);
    EXPECT_LE(ack->final_end, world.replica(0).durable_state().final_end);
  };
  for (int i = 0; i < 30; ++i) {
    world.commit();
    world.run(milliseconds(100));
  }
  EXPECT_GT(most, kLogBegin);
}

TEST(KeptBeforeTold, ADirectoryMadeAnewDoesNotCountInTheNameOfTheLogThatWasLost) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn before = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == before; }));
  world.replica(0).stop();
  State empty = first_replica_state(world.members[0], false);
  empty.log_id = LogId{{8, 8}};
  empty.standby_ready = true;
  world.replica(0).disk.state = encode(empty);
  world.replica(0).disk.bytes.clear();
  world.primary_disk.hold_persists = true;  // That it is a member is not durable.
  world.replica(0).start(world.now);
  const Lsn after = world.commit();
  world.run(milliseconds(500));
  ASSERT_TRUE(world.disk_holds(0, after));
  EXPECT_EQ(world.replica_view(0).state, "streaming");
  EXPECT_NE(world.primary_state().policy.members.at(0).log_id, empty.log_id);
  EXPECT_FALSE(world.replica_view(0).counts);
  EXPECT_EQ(world.upstream.last.flush, before);
  world.primary_disk.hold_persists = false;
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == after; }));
  EXPECT_EQ(world.primary_state().policy.members.at(0).log_id, empty.log_id);
  EXPECT_EQ(world.replica(0).durable_state().policy.members.at(0).log_id, empty.log_id);
}

TEST(KeptBeforeTold, AFenceIsAnsweredOnceItsPromiseSurvivesACrash) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  ReplicaHost& replica = world.replica(0);
  replica.disk.hold_persists = true;
  ASSERT_TRUE(replica.node->fence(2, "b1", false, world.now));
  world.run(milliseconds(100));
  EXPECT_FALSE(replica.node->fenced()) << "a crash now would obey the old primary again";
  EXPECT_LT(replica.durable_state().promise.epoch.term, 2u);
  replica.disk.hold_persists = false;
  ASSERT_TRUE(world.until([&] { return replica.node->fenced(); }));
  EXPECT_EQ(replica.durable_state().promise.epoch.term, 2u);
  EXPECT_EQ(replica.durable_state().promise.candidate, "b1");
}

}  // namespace
}  // namespace slipstream::node
