#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "tests/node/world.h"

// A primary that finds the end of a replica's log to be of an earlier life says so: cut it there (E4).
namespace slipstream::node {
namespace {

constexpr NodeId kReplicaId{2};

// A replica that holds some final WAL and behind it records of a life of which its primary knows nothing, greeted by
// hand.
class CutLog : public testing::Test {
 protected:
  CutLog() {
    EXPECT_TRUE(world.until([&] { return world.all_streaming(); }));
    world.commit(20'000);
    world.run(milliseconds(1500));  // What is final is in the state file, too.
    final_end = world.wal.end();
    world.stop_primary();
    host().stop();
    for (int i = 0; i < 3; ++i) ends.push_back(world.wal.record(5'000));
    old_end = ends.back();
    write_to_disk();
    host().standby.events.clear();
    host().start(world.now);
    const State state = host().durable_state();
    EXPECT_EQ(state.final_end, final_end);
    EXPECT_EQ(host().view(world.now).durable_end, old_end);
    header.cluster = kSystem, header.source = kPrimaryId, header.destination = kReplicaId;
    header.session = SessionId{1}, header.timeline = TimelineId{1};
    header.epoch = {state.promise.epoch.term, state.promise.epoch.incarnation + 1};
  }

  void write_to_disk() {
    auto& bytes = host().disk.bytes;
    const auto log = world.wal.at({kLogBegin, old_end});
    bytes.assign(log.begin(), log.end());
  }
  ReplicaHost& host() { return world.replica(0); }
  bool wants_reopen() { return host().node->wants_reopen(); }
  State state() { return host().durable_state(); }

  void say(const protocol::Body& body) {
    ++header.packet_number;
    Network::Wire bytes(protocol::kControlBytesMax);
    bytes.resize(protocol::encode(header, body, bytes));
    world.network.inject(kReplicaId, bytes);
    go_on();
  }
  void go_on() {
    for (int i = 0; i < 50; ++i) host().step_once(world.now), world.now = world.now + microseconds(500);
  }
  // What the replica said since.
  template <class T>
  std::optional<T> heard() {
    std::optional<T> out;
    for (const auto& bytes : world.network.take(kPrimaryId)) {
      protocol::Frame frame;
      EXPECT_EQ(protocol::decode(bytes, frame), protocol::Verdict::kAccepted);
      if (const auto* body = std::get_if<T>(&frame.body)) out = *body;
    }
    return out;
  }
  void greet() {
    say(protocol::Hello{world.identity, "primary", 1, 1, 150000, kSegmentSize, final_end, 1});
    const auto welcome = heard<protocol::Welcome>();
    ASSERT_TRUE(welcome.has_value());
    EXPECT_EQ(welcome->durable_end, old_end);
  }
  void expect_refused(const protocol::Cut& cut, protocol::RefuseReason reason) {
    const auto before = host().disk.state;
    say(cut);
    const auto refused = heard<protocol::Refuse>();
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->reason, reason) << refused->text;
    EXPECT_FALSE(wants_reopen());
    EXPECT_EQ(host().disk.state, before);
    EXPECT_FALSE(host().view(world.now).state == "cutting");
  }

  World world{"ANY 1 (b1)", 1};
  protocol::FrameHeader header;
  Lsn final_end, old_end;
  std::vector<Lsn> ends;
};

TEST_F(CutLog, IsRememberedAndThenOpenedAnew) {
  greet();
  host().disk.hold_persists = true;
  say(protocol::Cut{ends[0], old_end});
  EXPECT_FALSE(wants_reopen()) << "not durable yet";
  EXPECT_FALSE(state().replacement.has_value());
  EXPECT_EQ(host().view(world.now).state, "cutting");
  host().disk.hold_persists = false;
  go_on();
  EXPECT_TRUE(wants_reopen());
  EXPECT_EQ(state().replacement, (ReplacementIntent{ends[0], old_end}));
  EXPECT_EQ(state().final_end, final_end);
  EXPECT_TRUE(world.network.take(kPrimaryId).empty()) << "nothing is answered";
}

TEST_F(CutLog, NothingElseHappensUntilThen) {
  greet();
  say(protocol::Cut{final_end, old_end});
  ASSERT_TRUE(wants_reopen());
  const auto before = host().disk.state;
  const auto bytes = host().disk.bytes;
  ++header.session.value, ++header.epoch.incarnation;
  say(protocol::Hello{world.identity, "primary", 1, 1, 150000, kSegmentSize, final_end, 1});
  say(protocol::Cut{final_end, old_end});
  say(protocol::Probe{old_end, true});
  host().standby.events.push_back(StandbyReply{old_end, old_end, old_end});
  world.now = world.now + seconds(5);
  go_on();
  host().node->raise_log_begin(old_end);
  EXPECT_FALSE(host().node->fence(9, "b1", false, world.now).has_value());
  EXPECT_TRUE(host().node->settle());
  go_on();
  EXPECT_TRUE(world.network.take(kPrimaryId).empty());
  EXPECT_EQ(host().disk.state, before);
  EXPECT_EQ(host().disk.bytes, bytes);
  EXPECT_EQ(host().standby.last.fed_end, final_end);
  EXPECT_TRUE(wants_reopen());
}

TEST_F(CutLog, IsNotCutBelowWhatIsFinalOrBegun) {
  greet();
  expect_refused({Lsn{final_end.value - 8}, old_end}, protocol::RefuseReason::kDivergent);
  world.now = world.now + milliseconds(30);
  expect_refused({Lsn{kLogBegin.value - 8}, old_end}, protocol::RefuseReason::kDivergent);
}

TEST_F(CutLog, IsNotCutBelowWhatItsStandbyHas) {
  greet();
  host().standby.events.push_back(StandbyReply{ends[0], ends[0], ends[0]});
  go_on();
  expect_refused({final_end, old_end}, protocol::RefuseReason::kDivergent);
  world.now = world.now + milliseconds(30);
  say(protocol::Cut{ends[0], old_end});
  EXPECT_TRUE(wants_reopen());
}

TEST_F(CutLog, ThatEndsElsewhereIsAnother) {
  greet();
  expect_refused({final_end, ends[1]}, protocol::RefuseReason::kNoSession);
}

TEST_F(CutLog, IsNotCutOutsideOfAHandshake) {
  expect_refused({final_end, old_end}, protocol::RefuseReason::kNoSession);
  greet();
  ++header.session.value;
  world.now = world.now + milliseconds(30);
  expect_refused({final_end, old_end}, protocol::RefuseReason::kNoSession);
  --header.session.value;
  say(protocol::Adopt{old_end});
  ASSERT_TRUE(heard<protocol::Ack>().has_value());
  say(protocol::Cut{final_end, old_end});
  EXPECT_FALSE(wants_reopen());
  EXPECT_FALSE(state().replacement.has_value());
}

TEST_F(CutLog, IsNotCutByAnOlderTermOrForACandidate) {
  ASSERT_TRUE(host().node->fence(header.epoch.term + 1, "primary", false, world.now).has_value());
  go_on();
  expect_refused({final_end, old_end}, protocol::RefuseReason::kFenced);
  header.epoch = {header.epoch.term + 1, 1};  // The candidate itself, promoted.
  world.now = world.now + milliseconds(30);
  greet();
  expect_refused({final_end, old_end}, protocol::RefuseReason::kFenced);
}

}  // namespace
}  // namespace slipstream::node
