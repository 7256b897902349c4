#include <gtest/gtest.h>

#include "base/digest.h"
#include "tests/node/world.h"

// The nodes together: what is shipped, acknowledged, reported and fed.
namespace slipstream::node {
namespace {

using protocol::Frame;

TEST(Nodes, ShakeHandsAndStream) {
  World world("ANY 1 (b1, b2)");
  EXPECT_EQ(world.upstream.last, Report{});
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until(
      [&] { return world.upstream.last.flush == end && world.disk_holds(0, end) && world.disk_holds(1, end); }));
  EXPECT_EQ(world.view().state, "running");
  EXPECT_EQ(world.replica(0).view(world.now).state, "receiving");
  EXPECT_TRUE(world.view().waiting_for.empty());
}

TEST(Nodes, FeedTheStandbyAndReportWhatItApplied) {
  World world("ANY 2 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit(3000);
  ASSERT_TRUE(world.until([&] { return world.upstream.last.apply == end; }));
  EXPECT_EQ(world.replica(0).standby.last.fed_end, end);
  EXPECT_EQ(world.replica(0).standby.last.primary_flushed_end, end);
}

// No ack of its own at once; but none much later either, though nothing else is written.
TEST(Nodes, TellWhatIsAppliedALittleLaterWhileNobodyWaitsForIt) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.run(milliseconds(20));
  Lsn applied;  // As told last, and when that moved.
  Instant moved{}, durable_at{};
  world.network.seen = [&](NodeId from, NodeId, const protocol::Frame& frame) {
    const auto* ack = std::get_if<protocol::Ack>(&frame.body);
    if (!ack || from != NodeId{2}) return;
    if (ack->applied_end > applied) applied = ack->applied_end, moved = world.now;
    if (ack->durable_end > applied && durable_at < moved) durable_at = world.now;
  };
  for (int i = 0; i < 5; ++i) {
    const Lsn end = world.commit(100);
    ASSERT_TRUE(world.until([&] { return applied == end; }));
    EXPECT_GE(moved - durable_at, milliseconds(1)) << i;
    EXPECT_LE(moved - durable_at, milliseconds(4)) << i;
    world.run(milliseconds(20));
  }
}

TEST(Nodes, CarryMuchMoreThanTheirRings) {
  World world("ANY 2 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  for (int i = 0; i < 12; ++i) {
    world.write(40, 30'000);
    world.flush();
    world.run(milliseconds(1));
  }
  const Lsn end = world.commit();
  ASSERT_GT(end.value, kLogBegin.value + 3 * kRingBytes);
  ASSERT_TRUE(world.until([&] { return world.upstream.last.apply == end; }, seconds(10)));
  EXPECT_TRUE(world.disk_holds(0, end));
  EXPECT_TRUE(world.disk_holds(1, end));
}

TEST(Nodes, RepairWhatTheNetworkLoses) {
  World world("ANY 2 (b1, b2)");
  std::uint32_t dice = 12345;
  world.network.drop = [&](NodeId, NodeId, const Frame&) {
    return (dice = dice * 1664525 + 1013904223) >> 24 < 26;
  };  // A tenth.
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }, seconds(10)));
  for (int i = 0; i < 30; ++i) {
    world.write(8, 20'000);
    world.flush();
    world.run(milliseconds(2));
  }
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.apply == end; }, seconds(30)));
  EXPECT_TRUE(world.disk_holds(0, end));
  EXPECT_TRUE(world.disk_holds(1, end));
}

TEST(Nodes, CatchUpFromFilesWhatMemoryNoLongerHolds) {
  World world("ANY 1 (b1)");
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  world.write(300, 40'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(10)));
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.replica_view(1).state == "streaming"; }, seconds(10)));
  ASSERT_TRUE(world.until([&] { return world.disk_holds(1, world.wal.end()); }, seconds(10)));
}

TEST(Nodes, ShipOnlyWhatWasFlushed) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  Lsn flushed = world.wal.end();
  bool beyond = false;
  world.network.seen = [&](NodeId from, NodeId, const Frame& frame) {
    if (const auto* data = std::get_if<protocol::Data>(&frame.body); data && from == kPrimaryId)
      beyond |= data->batch.range.end > flushed;
  };
  world.write(5, 500);  // Written, not flushed.
  world.run(milliseconds(20));
  EXPECT_EQ(world.view().shipped_end, flushed);
  flushed = world.wal.end();
  world.flush();
  world.run(milliseconds(20));
  EXPECT_EQ(world.view().shipped_end, flushed);
  EXPECT_FALSE(beyond);
}

TEST(Nodes, AcknowledgeNothingAsDurableBeforeItsWriteCompleted) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  bool early = false;
  world.network.seen = [&](NodeId from, NodeId, const Frame& frame) {
    if (const auto* ack = std::get_if<protocol::Ack>(&frame.body))
      early |= !world.disk_holds(from.value - 2u, ack->durable_end);
  };
  const Lsn before = world.upstream.last.flush;
  world.replica(0).disk.hold_writes = world.replica(1).disk.hold_writes = true;
  const Lsn end = world.commit();
  world.run(milliseconds(300));
  EXPECT_EQ(world.upstream.last.write, end);
  EXPECT_EQ(world.upstream.last.flush, before);
  world.replica(1).disk.hold_writes = false;
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  EXPECT_FALSE(early);
}

TEST(Nodes, AcknowledgeInTheStepInWhichTheWriteCompleted) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.run(milliseconds(50));
  const Instant begin = world.now;
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  EXPECT_LE((world.now - begin).ns, microseconds(100 * 6).ns);  // Event, read, frame, write, ack: a turn each.
}

TEST(Nodes, StopAcknowledgingOnAFullDiskAndGoOnWhenThereIsRoom) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn before = world.upstream.last.flush;
  world.replica(0).disk.no_space = true;
  const Lsn end = world.commit();
  world.run(milliseconds(700));
  EXPECT_EQ(world.replica(0).view(world.now).state, "no_space");
  EXPECT_EQ(world.upstream.last.flush, before);
  world.replica(0).disk.no_space = false;
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  EXPECT_EQ(world.replica(0).view(world.now).state, "receiving");
}

// ---- Policies

TEST(Nodes, OfAnAnyPolicyGoOnWithoutOneReplica) {
  World world("ANY 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(0).stop();
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(Nodes, OfAFirstPolicyGoOnWithTheNextOnceTheFirstIsSilent) {
  World world("FIRST 1 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(0).stop();
  const Lsn before = world.upstream.last.flush;
  const Lsn end = world.commit();
  world.run(milliseconds(300));
  EXPECT_EQ(world.upstream.last.flush, before);
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }, milliseconds(400)));
}

TEST(Nodes, OfACompoundPolicyWaitForEachTerm) {
  World world("ANY 1 (b1) AND ANY 1 (b2, b3)", 3);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.replica(0).stop();
  const Lsn before = world.upstream.last.flush;
  const Lsn end = world.commit();
  world.run(seconds(2));
  EXPECT_EQ(world.upstream.last.flush, before);
  ASSERT_EQ(world.view().waiting_for.size(), 1u);
  EXPECT_NE(world.view().waiting_for[0].find("policy needs 1 more of (b1): b1 unreachable"), std::string::npos)
      << world.view().waiting_for[0];
  world.replica(0).start(world.now);
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(Nodes, DoNotCountAReplicaWithoutAStandby) {
  World world("ANY 1 (b1)", 1);
  world.replica(0).standby.events.clear();
  ASSERT_TRUE(world.until([&] { return world.replica_view(0).state == "streaming"; }));
  world.commit();
  world.run(milliseconds(100));
  EXPECT_EQ(world.upstream.last, Report{});
  world.replica(0).standby.events.push_back(StandbyConnected{kLogBegin, "late"});
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
}

// ---- Restarts

TEST(Nodes, ResumeWithAReplicaThatWasKilled) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn first = world.commit(9000);
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == first; }));
  world.replica(0).stop();
  world.run(milliseconds(50));
  world.replica(0).start(world.now);
  EXPECT_GE(world.replica(0).view(world.now).durable_end, first);
  const Lsn second = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == second; }));
  EXPECT_TRUE(world.disk_holds(0, second));
}

TEST(Nodes, ResumeWithAReplicaThatWasKilledInsideARecord) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == first; }));
  world.write(1, 700'000);
  // Of the long record only the first half is flushed.
  UpstreamChunk chunk{{world.streamed_end, world.streamed_end + ByteCount{100'000}}, 0};
  chunk.digest = xxh3_64(world.wal.at(chunk.range));
  world.upstream.events.push_back(chunk);
  world.streamed_end = chunk.range.end;
  world.run(milliseconds(50));
  EXPECT_GT(world.replica(0).view(world.now).synced_end, first);
  EXPECT_EQ(world.replica(0).view(world.now).durable_end, first);
  EXPECT_EQ(world.upstream.last.flush, first);
  world.replica(0).stop();
  world.replica(0).start(world.now);
  EXPECT_EQ(world.replica(0).view(world.now).durable_end, first);
  world.run(milliseconds(300));
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
  EXPECT_TRUE(world.disk_holds(0, world.wal.end()));
}

TEST(Nodes, GoOnInANewEpochAfterThePrimaryDaemonRestarted) {
  World world("ANY 2 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == first; }));
  const Epoch before = world.view().epoch;
  world.stop_primary();
  world.connected = false;
  world.upstream.events.clear();
  world.write(2, 300);
  world.run(milliseconds(20));
  world.start_primary();
  EXPECT_EQ(world.primary->report(), Report{});
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
  EXPECT_EQ(world.view().epoch, (Epoch{before.term, before.incarnation + 1}));
  EXPECT_EQ(world.replica(0).view(world.now).held_epoch, world.view().epoch);
}

TEST(Nodes, GoOnInANewEpochAfterTheConnectionWasLost) {
  World world("ANY 2 (b1, b2)");
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn first = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == first; }));
  world.lose_connection();
  world.run(milliseconds(50));
  EXPECT_EQ(world.view().state, "no_database");
  EXPECT_EQ(world.upstream.last.flush, first);
  EXPECT_EQ(world.replica_view(0).state, "streaming");
  world.write(3, 20'000);
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
  EXPECT_EQ(world.view().epoch.incarnation, 2u);
  EXPECT_TRUE(world.disk_holds(0, world.wal.end()));
}

TEST(Nodes, SendNothingInAnEpochThatIsNotDurable) {
  World world("ANY 1 (b1)", 1);
  world.primary_disk.hold_persists = true;
  bool sent = false;
  world.network.seen = [&](NodeId from, NodeId, const Frame&) { sent |= from == kPrimaryId; };
  world.run(milliseconds(300));
  EXPECT_FALSE(sent);
  EXPECT_EQ(world.view().state, "recording_epoch");
  world.primary_disk.hold_persists = false;
  EXPECT_TRUE(world.until([&] { return sent; }));
}

TEST(Nodes, AcknowledgeNothingInAnEpochThatTheReplicaHasNotPersisted) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.lose_connection();
  world.run(milliseconds(10));
  world.replica(0).disk.hold_persists = true;
  bool acked = false;
  world.network.seen = [&](NodeId, NodeId, const Frame& frame) {
    acked |= std::holds_alternative<protocol::Ack>(frame.body) && frame.header.epoch.incarnation == 2;
  };
  world.connect();
  world.run(milliseconds(400));
  EXPECT_FALSE(acked);
  world.replica(0).disk.hold_persists = false;
  ASSERT_TRUE(world.until([&] { return acked; }));
  EXPECT_EQ(world.replica(0).durable_state().held_epoch, (Epoch{1, 2}));
}

TEST(Nodes, AcknowledgeNothingWhenOnlyAnEarlierStateWasPersisted) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  FakeDisk& disk = world.replica(0).disk;
  disk.hold_persists = true;
  world.commit();
  world.run(milliseconds(1500));  // Positions moved: that is being written when the new epoch is adopted.
  bool acked = false;
  world.network.seen = [&](NodeId, NodeId, const Frame& frame) {
    acked |= std::holds_alternative<protocol::Ack>(frame.body) && frame.header.epoch.incarnation == 2;
  };
  world.lose_connection();
  world.run(milliseconds(10));
  world.connect();
  world.run(milliseconds(300));
  const auto persists = disk.persists;
  disk.persists_let_through = 1;
  ASSERT_TRUE(world.until([&] { return disk.persists == persists + 1; }));
  world.run(milliseconds(300));
  EXPECT_FALSE(acked);
  disk.hold_persists = false;
  EXPECT_TRUE(world.until([&] { return acked; }));
}

TEST(Nodes, FeedNothingThatThePrimaryHasNotConfirmed) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.run(milliseconds(10));
  world.stop_primary();
  const Lsn begin = world.replica(0).view(world.now).durable_end;
  const Lsn end = world.wal.record(300);
  protocol::FrameHeader header;
  header.cluster = kSystem, header.source = kPrimaryId, header.destination = NodeId{2};
  header.session = SessionId{1}, header.epoch = {1, 1}, header.timeline = TimelineId{1};
  header.position = begin, header.flushed_end = end, header.confirmed_end = begin;
  const auto payload = world.wal.at({begin, end});
  std::vector<std::byte> frame(protocol::kDataHeaderBytes);
  protocol::encode_data_head(header, {{begin, end}, xxh3_64(payload)}, payload.size(), frame);
  frame.insert(frame.end(), payload.begin(), payload.end());
  ASSERT_EQ(world.replica(0).node->on_frame(protocol::Arrival(frame), world.now), protocol::Verdict::kAccepted);
  world.run(milliseconds(5));
  EXPECT_EQ(world.replica(0).view(world.now).durable_end, end);
  EXPECT_EQ(world.replica(0).standby.last.fed_end, begin);
  header.position = {}, header.confirmed_end = end;
  std::vector<std::byte> probe(kHeadBytesMax);
  probe.resize(protocol::encode(header, protocol::Probe{end, true}, probe));
  ASSERT_EQ(world.replica(0).node->on_frame(protocol::Arrival(probe), world.now), protocol::Verdict::kAccepted);
  world.run(milliseconds(5));
  EXPECT_EQ(world.replica(0).standby.last.fed_end, end);
}

TEST(Nodes, DoNotCountAReplicaThatCatchesUp) {
  World world("ANY 1 (b1, b2)");
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  world.write(300, 40'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(10)));
  // It is a member that streamed before, so that only catching up speaks against it.
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.streaming(1); }, seconds(10)));
  world.replica(1).stop();
  world.write(300, 40'000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }, seconds(10)));
  world.replica(1).start(world.now);
  bool caught_up = false, early = false;
  ASSERT_TRUE(world.until(
      [&] {
        const ReplicaView& view = world.replica_view(1);
        caught_up |= view.state == "catching_up";
        early |= view.state == "catching_up" && view.counts;
        return caught_up && view.counts && view.state == "streaming";
      },
      seconds(10)));
  EXPECT_FALSE(early);
}

TEST(Nodes, ReportNothingOnANewConnectionBeforeItsHandshakes) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
  world.replica(0).stop();
  world.lose_connection();
  world.run(milliseconds(10));
  world.connect();
  world.run(milliseconds(200));
  EXPECT_EQ(world.upstream.last, Report{});
  world.replica(0).start(world.now);
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

// A feed reads it in words of 8 bytes; frames end anywhere.
TEST(Nodes, DurableBytesInTheRingBeginAndEndAtWords) {
  World world("ANY 1 (b1)", 1);
  world.primary_port.frame_bytes = 8972;
  std::size_t within_words = 0;
  world.network.seen = [&](NodeId, NodeId, const protocol::Frame& frame) {
    if (const auto* data = std::get_if<protocol::Data>(&frame.body)) within_words += data->payload.size() % 8 != 0;
  };
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  for (int i = 0; i < 20; ++i) {
    world.write(400, 5000);
    world.flush();
    ASSERT_TRUE(world.until([&] {
      const LsnRange held = world.replica(0).node->durable_in_ring();
      EXPECT_EQ(held.begin.value % 8, 0u);
      EXPECT_EQ(held.end.value % 8, 0u);
      return world.upstream.last.flush == world.wal.end();
    }));
  }
  EXPECT_GT(within_words, 100u);
}

}  // namespace
}  // namespace slipstream::node
