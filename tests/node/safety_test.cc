#include <gtest/gtest.h>

#include "base/digest.h"
#include "tests/node/world.h"

// The rules of epochs, confirming and fences (docs/guarantees.md), each seen from outside the nodes.
namespace slipstream::node {
namespace {

using protocol::Frame;
using protocol::RefuseReason;

// ---- Confirming (C1, C2)

TEST(Confirming, HoldsWhereThePrimarysStreamAndFilesDifferAndReconnects) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn good = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == good; }));
  world.spoil = [](UpstreamChunk& chunk) { chunk.digest ^= 1; };
  world.commit();
  world.run(milliseconds(100));
  EXPECT_EQ(world.upstream.reconnects, 1);
  EXPECT_EQ(world.view().confirmed_end, good);
  EXPECT_EQ(world.view().shipped_end, good);
  EXPECT_EQ(world.upstream.last.flush, good);
  EXPECT_EQ(world.replica(0).view(world.now).received_end, good);
  world.spoil = nullptr;
  world.lose_connection();
  world.connect();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
}

TEST(Confirming, EndsInANamedStateWhenTheDifferencePersists) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.spoil = [](UpstreamChunk& chunk) { chunk.digest ^= 1; };
  world.commit();
  for (int i = 0; i < 5; ++i) {
    world.run(milliseconds(100));
    world.lose_connection();
    world.connect();
  }
  world.run(milliseconds(100));
  EXPECT_EQ(world.view().state, "mismatch");
  EXPECT_LE(world.upstream.reconnects, 2);
  EXPECT_NE(world.view().reason.find("pg_wal"), std::string::npos);
}

TEST(Confirming, ReadsAgainWhatWasNotYetInTheFile) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn begin = world.wal.end();
  const Lsn end = world.wal.record(200);
  world.flush();
  auto bytes = world.wal.at({begin, end});
  std::vector<std::byte> right(bytes.begin(), bytes.end());
  bytes[100] = std::byte{0};  // As the file looks for the first read.
  world.run(microseconds(300));
  std::ranges::copy(right, world.wal.at({begin, end}).begin());
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }, milliseconds(50)));
  EXPECT_EQ(world.upstream.reconnects, 0);
}

// ---- Epochs (E1 to E4, E7)

TEST(Epochs, OfASupersededPrimaryAreRefusedAndItStopsReportingForGood) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  ASSERT_TRUE(world.replica(0).node->fence(2, "b1", false, world.now));
  world.commit();
  ASSERT_TRUE(world.until([&] { return world.view().state == "superseded"; }));
  const Report last = world.upstream.last;
  world.commit();
  world.run(milliseconds(500));
  EXPECT_EQ(world.upstream.last, last);  // Although b2 is willing.
  EXPECT_TRUE(world.primary_state().superseded);
  world.stop_primary();
  world.upstream.events.clear();
  world.start_primary();
  world.connect();
  world.run(milliseconds(500));
  EXPECT_EQ(world.view().state, "superseded");
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(Epochs, OfAnotherIdentityInTheSameTermAreRefused) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.stop_primary();
  world.upstream.events.clear();
  world.primary_disk.state = encode(first_primary_state(Identity{{99, 99}}));
  State state = world.primary_state();
  state.own_epoch = {1, 7};
  world.primary_disk.state = encode(state);
  world.start_primary();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.view().state == "superseded"; }));
  EXPECT_EQ(world.replica(0).durable_state().promise.identity, kIdentity);
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(Epochs, ThatAreOldChangeNothing) {
  World world("ANY 1 (b1)", 1);
  std::vector<Network::Wire> old;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  // Record what the primary says in its first epoch, then say it again in the second.
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == first; }));
  OutFrame frame;
  protocol::FrameHeader header;
  header.cluster = kSystem, header.source = kPrimaryId, header.destination = NodeId{2};
  header.session = SessionId{1}, header.epoch = world.view().epoch, header.timeline = TimelineId{1};
  header.position = first, header.confirmed_end = header.flushed_end = first + ByteCount{1u << 20};
  world.lose_connection();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.view().epoch.incarnation == 2 && world.all_streaming(); }));
  const auto before = world.replica(0).view(world.now);
  const std::vector<std::byte> payload(64, std::byte{7});
  const protocol::Batch batch{{before.received_end, before.received_end + ByteCount{64}}, xxh3_64(payload)};
  header.position = before.received_end;
  std::vector<std::byte> bytes(protocol::kDataHeaderBytes);
  protocol::encode_data_head(header, batch, payload.size(), bytes);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  EXPECT_EQ(world.replica(0).node->on_frame(protocol::Arrival(bytes), world.now), protocol::Verdict::kStaleEpoch);
  header.epoch = world.view().epoch;
  header.session = SessionId{9};
  bytes.resize(protocol::kDataHeaderBytes);
  protocol::encode_data_head(header, batch, payload.size(), bytes);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  EXPECT_EQ(world.replica(0).node->on_frame(protocol::Arrival(bytes), world.now), protocol::Verdict::kOtherSession);
  const auto after = world.replica(0).view(world.now);
  EXPECT_EQ(after.received_end, before.received_end);
  EXPECT_EQ(after.final_end, before.final_end);

  // And the same for an ack.
  protocol::Ack ack;
  ack.received_end = ack.durable_end = ack.applied_end = first + ByteCount{1u << 20};
  ack.window_end = ack.received_end;
  header.source = NodeId{2}, header.destination = kPrimaryId, header.epoch = {1, 1}, header.position = {};
  std::vector<std::byte> acked(kHeadBytesMax);
  acked.resize(protocol::encode(header, ack, acked));
  EXPECT_EQ(world.primary->on_frame(protocol::Arrival(acked), world.now), protocol::Verdict::kStaleEpoch);
  EXPECT_EQ(world.view().committed[ack::Level::kDurable], first);
}

TEST(Epochs, StartOverWithAReplicaThatForgotItsSession) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(0).stop();
  world.replica(0).start(world.now);
  int refusals = 0, hellos = 0;
  world.network.seen = [&](NodeId, NodeId, const Frame& frame) {
    if (const auto* refuse = std::get_if<protocol::Refuse>(&frame.body))
      refusals += refuse->reason == RefuseReason::kNoSession;
    hellos += std::holds_alternative<protocol::Hello>(frame.body);
  };
  ASSERT_TRUE(world.until([&] { return world.all_streaming() && hellos > 0; }));
  EXPECT_EQ(refusals, 1);
  EXPECT_EQ(hellos, 1);
}

TEST(Reconciling, RefusesALogThatDiffersAndNamesThePosition) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.write(20, 20'000);
  world.flush();
  ASSERT_TRUE(
      world.until([&] { return world.disk_holds(0, world.wal.end()) && world.disk_holds(1, world.wal.end()); }));
  world.run(milliseconds(1500));  // The scan's begin is persisted.
  world.replica(0).stop();
  // A byte of a block differs that recovery does not read: the scan starts behind it.
  State state = world.replica(0).durable_state();
  world.replica(0).disk.bytes[70'000] ^= std::byte{1};
  ASSERT_GT(state.scan_begin.value, kLogBegin.value + 80'000);
  world.replica(0).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).state == "refused"; }));
  EXPECT_NE(world.replica_view(0).reason.find("different bytes in [0/310000, 0/320000)"), std::string::npos)
      << world.replica_view(0).reason;
  const Lsn end = world.commit();
  world.run(milliseconds(100));
  EXPECT_EQ(world.upstream.last.flush, end);  // b2 goes on.
  EXPECT_LT(world.replica(0).view(world.now).received_end, end);
}

TEST(Reconciling, RefusesToServeAReplicaThatHoldsMoreThanWasFlushed) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn kept = world.commit();
  const Lsn previous = world.wal.previous();
  const Lsn lost = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == lost; }));
  world.stop_primary();
  world.upstream.events.clear();
  world.wal.cut(kept, previous);  // A power failure took flushed WAL.
  world.start_primary();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).state == "refused"; }));
  EXPECT_NE(world.replica_view(0).reason.find("lost flushed WAL"), std::string::npos);
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(Reconciling, ReportsNothingWhenTheSameDaemonMeetsAServerThatLostWal) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn kept = world.commit();
  const Lsn previous = world.wal.previous();
  const Lsn lost = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == lost; }));
  world.lose_connection();
  world.run(milliseconds(5));
  world.wal.cut(kept, previous);
  world.connect();
  world.commit(500);
  world.run(milliseconds(300));
  EXPECT_EQ(world.view().state, "lost_wal");
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(Primary, RefusesAnotherClusterAndReportsNothingToIt) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  world.lose_connection();
  world.upstream.events.push_back(
      UpstreamConnected{SystemId{5}, TimelineId{1}, kSegmentSize, 150020, world.streamed_end, world.wal.end(), ""});
  world.upstream.events.push_back(UpstreamChunk{{kLogBegin, kLogBegin + ByteCount{10}}, 1});
  world.run(milliseconds(50));
  EXPECT_EQ(world.view().state, "other_cluster");
  EXPECT_EQ(world.upstream.last, Report{});
}

TEST(Primary, SaysWhenPostgresqlCanDoWithoutIt) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  EXPECT_TRUE(world.view().counted_by_postgres);
  world.upstream.events.push_back(UpstreamSyncNames{false, "ANY 1 (other, slipstream)"});
  world.run(milliseconds(1));
  EXPECT_FALSE(world.view().counted_by_postgres);
  EXPECT_NE(world.view().reason.find("ANY 1 (other, slipstream)"), std::string::npos);
}

TEST(Primary, NeverReportsBeyondTheStreamWhilePostgresqlStops) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.upstream.events.push_back(UpstreamStopping{});
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  world.run(milliseconds(300));
  EXPECT_EQ(world.upstream.last.flush, world.streamed_end);
}

// ---- Fences and promotion (P2, P5)

TEST(Fence, StopsAcksOfTheOlderTermAndAnswersWithEverythingReceived) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(0).disk.hold_writes = true;
  const Lsn end = world.commit();
  world.run(milliseconds(2));
  bool acked = false;
  ReplicaNode& node = *world.replica(0).node;
  ASSERT_TRUE(node.fence(2, "b1", false, world.now));
  world.network.seen = [&](NodeId, NodeId, const Frame& frame) {
    acked |= std::holds_alternative<protocol::Ack>(frame.body);
  };
  world.run(milliseconds(50));
  EXPECT_FALSE(node.fenced());  // What was received is not durable yet.
  world.replica(0).disk.hold_writes = false;
  ASSERT_TRUE(world.until([&] { return node.fenced(); }));
  EXPECT_EQ(node.evidence().durable_end, end);
  EXPECT_EQ(node.evidence().counted_end, end);
  EXPECT_EQ(node.evidence().promise.candidate, "b1");
  EXPECT_EQ(world.replica(0).durable_state().promise.epoch.term, 2u);
  world.run(milliseconds(300));
  EXPECT_FALSE(acked);
  // Nor after a restart.
  world.replica(0).stop();
  world.replica(0).start(world.now);
  EXPECT_TRUE(world.replica(0).node->fenced());
  world.run(milliseconds(300));
  EXPECT_FALSE(acked);
}

TEST(Fence, IsRefusedForAnotherCandidateUntilItSupersedes) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  ReplicaNode& node = *world.replica(0).node;
  EXPECT_FALSE(node.fence(1, "b1", false, world.now));  // The running primary's own term.
  ASSERT_TRUE(node.fence(2, "b1", false, world.now));
  ASSERT_TRUE(node.fence(2, "b1", false, world.now));
  const auto refused = node.fence(3, "b2", false, world.now);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ExitCode::kRefused);
  EXPECT_NE(refused.error().message().find("promised term 2 to b1"), std::string::npos);
  EXPECT_TRUE(node.fence(3, "b2", true, world.now));
}

TEST(Fence, AdmitsOnlyItsCandidateInItsTerm) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  ASSERT_TRUE(world.replica(0).node->fence(2, "c", false, world.now));
  world.stop_primary();
  world.upstream.events.clear();
  State state = world.primary_state();
  state.own_epoch = {2, 0};
  state.identity = Identity{{3, 3}};
  world.primary_disk.state = encode(state);
  world.start_primary();  // It is called a.
  world.connect();
  world.run(milliseconds(300));
  EXPECT_EQ(world.replica_view(0).state, "refused");
  EXPECT_NE(world.replica_view(0).reason.find("promised to c"), std::string::npos) << world.replica_view(0).reason;
  ASSERT_TRUE(world.replica(0).node->fence(3, "a", true, world.now));
  world.stop_primary();
  world.upstream.events.clear();
  state.own_epoch = {3, 0};
  world.primary_disk.state = encode(state);
  world.start_primary();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  EXPECT_EQ(world.replica(0).durable_state().promise, (Promise{{3, 1}, Identity{{3, 3}}, ""}));
}

TEST(Promotion, FeedsEverythingDurableAndTakesNoPrimaryAnyMore) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  ReplicaNode& node = *world.replica(0).node;
  ASSERT_TRUE(node.fence(2, "b1", false, world.now));
  ASSERT_TRUE(world.until([&] { return node.fenced(); }));
  node.release_everything();
  world.run(milliseconds(1));
  EXPECT_EQ(world.replica(0).standby.last.fed_end, end);
  node.mark_promoted();
  world.run(milliseconds(5));
  EXPECT_TRUE(world.replica(0).durable_state().promoted);
  EXPECT_FALSE(node.fence(3, "b2", false, world.now));
}

TEST(Promotion, RemembersWhoIsUnfencedUntilEachIs) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  ReplicaNode& node = *world.replica(0).node;
  ASSERT_TRUE(node.fence(2, "b1", false, world.now));
  ASSERT_TRUE(world.until([&] { return node.fenced(); }));
  const MemberRecord c{"c", NodeId{7}, LogId{{7, 7}}}, d{"d", NodeId{8}, LogId{{8, 8}}};
  node.release_everything({c, d});
  ASSERT_TRUE(world.until([&] { return node.promotion_durable(); }));
  EXPECT_EQ(world.replica(0).durable_state().unfenced, (std::vector{c, d}));
  node.mark_promoted();
  EXPECT_FALSE(node.promotion_durable());
  EXPECT_EQ(node.snapshot(world.now).replica.unfenced, (std::vector<std::string>{"c", "d"}));

  Evidence told = node.evidence();
  told.name = "c", told.log_id = c.log_id;
  told.promise = {{2, 0}, {}, "d"};
  EXPECT_FALSE(node.member_fenced(told)) << "fenced for another";
  told.promise = {{3, 0}, {}, "b1"};
  EXPECT_FALSE(node.member_fenced(told)) << "another term";
  told.promise = {{2, 0}, {}, "b1"};
  told.log_id = LogId{{9, 9}};
  EXPECT_FALSE(node.member_fenced(told)) << "a directory made anew";
  told.log_id = c.log_id;
  EXPECT_TRUE(node.member_fenced(told));
  EXPECT_FALSE(node.member_destroyed("c"));
  EXPECT_EQ(node.snapshot(world.now).replica.unfenced, (std::vector<std::string>{"d"}));
  EXPECT_TRUE(node.member_destroyed("d"));
  ASSERT_TRUE(world.until([&] { return node.promotion_durable(); }));
  EXPECT_TRUE(world.replica(0).durable_state().unfenced.empty());
  EXPECT_TRUE(world.replica(0).durable_state().promoted);
}

TEST(HigherTerm, IsPromisedDurablyBeforeItIsAnswered) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.stop_primary();
  world.upstream.events.clear();
  State state = world.primary_state();
  state.own_epoch = {4, 0};
  state.identity = Identity{{4, 4}};
  world.primary_disk.state = encode(state);
  world.replica(0).disk.hold_persists = true;
  bool welcomed = false;
  world.network.seen = [&](NodeId, NodeId, const Frame& frame) {
    welcomed |= std::holds_alternative<protocol::Welcome>(frame.body);
  };
  world.start_primary();
  world.connect();
  world.run(milliseconds(300));
  EXPECT_FALSE(welcomed);
  world.replica(0).disk.hold_persists = false;
  ASSERT_TRUE(world.until([&] { return welcomed; }));
  EXPECT_EQ(world.replica(0).durable_state().promise.epoch.term, 4u);
}

}  // namespace
}  // namespace slipstream::node
