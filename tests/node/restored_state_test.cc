#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "node/policy_book.h"
#include "tests/node/world.h"

// A primary's state directory that was replaced by an older copy of itself: no epoch and no policy version is used
// twice (E1, Q4).
namespace slipstream::node {
namespace {

// Looks at everything that is sent, over all lives of the primary.
class Watch {
 public:
  explicit Watch(World& world) : world_(world) {
    world.network.seen = [this](NodeId from, NodeId to, const protocol::Frame& frame) {
      if (from == kPrimaryId) look(to, frame);
    };
  }
  void new_life() { ++life_; }
  Epoch highest() const { return highest_; }
  std::size_t policies() const { return told_.size(); }

 private:
  void look(NodeId to, const protocol::Frame& frame) {
    const Epoch epoch = frame.header.epoch;
    highest_ = std::max(highest_, epoch);
    EXPECT_LE(epoch, world_.primary_state().own_epoch) << "speaks in an epoch that is not durable";
    if (std::holds_alternative<protocol::Adopt>(frame.body) || std::holds_alternative<protocol::Data>(frame.body)) {
      EXPECT_EQ(used_.emplace(std::pair{to, epoch}, life_).first->second, life_)
          << to_string(epoch) << " of another life is gone on with";
    }
    if (const auto* update = std::get_if<protocol::PolicyUpdate>(&frame.body)) {
      EXPECT_EQ(told_.emplace(update->version, *update).first->second, *update) << "version " << update->version;
    }
  }

  World& world_;
  int life_ = 0;
  Epoch highest_;
  std::map<std::pair<NodeId, Epoch>, int> used_;
  std::map<std::uint64_t, protocol::PolicyUpdate> told_;
};

void start_from(World& world, Watch& watch, const State& state) {
  world.stop_primary();
  world.upstream.events.clear();
  world.primary_disk.state = encode(state);
  watch.new_life();
  world.start_primary();
  world.connect();
}

void reconnect(World& world) {
  const Epoch before = world.view().epoch;
  world.lose_connection();
  world.connect();
  ASSERT_TRUE(world.until([&] { return world.view().epoch > before && world.all_streaming(); }));
}

void expect_well(World& world) {
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }, seconds(5)))
      << world.replica_view(0).reason << "; " << world.replica_view(world.replicas.size() - 1).reason;
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

TEST(RestoredState, OpensAnEpochAboveThoseThatReplicasKnow) {
  World world("ANY 2 (b1, b2)");
  Watch watch(world);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const State copy = world.primary_state();
  for (int i = 0; i < 3; ++i) reconnect(world);
  const Epoch newest = world.view().epoch;
  start_from(world, watch, copy);
  expect_well(world);
  EXPECT_GT(world.view().epoch, newest);
  EXPECT_EQ(world.view().state, "running");
}

TEST(RestoredState, LeavesAnEpochThatIsTheVeryOneOfAnotherLife) {
  for (const bool later_session : {false, true}) {
    for (const bool restarted : {false, true}) {
      World world("ANY 1 (b1)", 1);
      Watch watch(world);
      ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
      const State copy = world.primary_state();
      reconnect(world);
      const Epoch used = world.view().epoch;
      if (later_session) {
        world.replica(0).stop();
        world.replica(0).start(world.now);
        world.commit();
        world.run(milliseconds(300));
        ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
      }
      if (restarted) world.replica(0).stop(), world.replica(0).start(world.now);
      start_from(world, watch, copy);
      expect_well(world);
      EXPECT_GT(world.view().epoch, used);
    }
  }
}

TEST(RestoredState, LeavesAnEpochInWhichAReplicaWasOnlyGreeted) {
  World world("ANY 1 (b1)", 1);
  Watch watch(world);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const State copy = world.primary_state();
  reconnect(world);
  reconnect(world);
  world.network.drop = [](NodeId, NodeId to, const protocol::Frame& frame) {
    return to == kPrimaryId && std::holds_alternative<protocol::Welcome>(frame.body);
  };
  world.lose_connection();
  world.connect();
  world.run(milliseconds(50));
  world.network.drop = {};
  start_from(world, watch, copy);
  expect_well(world);
}

TEST(RestoredState, LeavesAnEpochBelowThatOfAnotherLifesGreetingThatCameLate) {
  for (const bool restarted : {false, true}) {
    World world("ANY 1 (b1)", 1);
    Watch watch(world);
    ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
    const State copy = world.primary_state();
    Network::Wire late;
    world.network.detain = [&](NodeId, NodeId, const Network::Wire& bytes) {
      protocol::Frame frame;
      if (protocol::decode(bytes, frame) == protocol::Verdict::kAccepted && std::get_if<protocol::Hello>(&frame.body))
        late = bytes;
      return true;
    };
    for (int i = 0; i < 2; ++i) world.lose_connection(), world.connect(), world.run(milliseconds(20));
    const Epoch used = world.view().epoch;
    world.network.detain = {};
    start_from(world, watch, copy);
    ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
    ASSERT_LT(world.view().epoch, used);
    if (restarted) world.replica(0).stop(), world.replica(0).start(world.now);
    world.network.inject(world.members[0].id, late);
    world.run(milliseconds(20));
    expect_well(world);
    EXPECT_GT(world.view().epoch, used);
  }
}

TEST(RestoredState, UsesNoEpochBeforeItIsDurable) {
  World world("ANY 1 (b1)", 1);
  Watch watch(world);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const State copy = world.primary_state();
  for (int i = 0; i < 3; ++i) reconnect(world);
  const Epoch newest = world.view().epoch;
  start_from(world, watch, copy);
  ASSERT_TRUE(world.until([&] { return world.view().state == "running" && world.view().epoch < newest; }));
  world.primary_disk.hold_persists = true;
  ASSERT_TRUE(world.until([&] { return world.view().state == "recording_epoch"; }));
  world.run(milliseconds(300));
  EXPECT_EQ(watch.highest(), newest);
  world.primary_disk.hold_persists = false;
  expect_well(world);
}

TEST(RestoredState, WaitsForEveryReplicaThatMayHaveBeenMetBeforeTheSlotMoves) {
  World world("ANY 1 (b1)", 2);
  Watch watch(world);
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  const State copy = world.primary_state();
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.replica_view(1).state == "streaming"; }));
  world.lose_connection();
  world.connect();
  world.run(milliseconds(50));
  ASSERT_TRUE(world.replica_view(1).state == "streaming" && world.streaming(0));
  world.replica(1).stop();
  start_from(world, watch, copy);
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }, seconds(5)));
  world.commit();
  world.run(milliseconds(200));
  EXPECT_EQ(world.view().slot_end, Lsn{});
}

// The epoch is the newest, the policy and those who were met are older: as from a copy made file by file.
TEST(RestoredState, TellsNoOtherPolicyUnderAVersionThatWasGivenOut) {
  World world("ANY 1 (b1, b2)");
  Watch watch(world);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const State old = world.primary_state();
  world.policy = "ANY 2 (b1, b2)";
  start_from(world, watch, world.primary_state());
  ASSERT_TRUE(world.until([&] { return world.all_streaming() && !world.primary_state().pending_policy; }));
  State mixed = old;
  mixed.own_epoch = world.primary_state().own_epoch;
  for (const char* text : {"FIRST 1 (b1, b2)", "ANY 1 (b1, b2)"}) {
    world.policy = text;
    start_from(world, watch, mixed);
    expect_well(world);
    ASSERT_TRUE(world.until([&] { return !world.primary_state().pending_policy; }));
    EXPECT_EQ(world.replica(0).durable_state().policy, world.replica(1).durable_state().policy);
    EXPECT_EQ(world.replica(0).durable_state().policy.text, text);
  }
  EXPECT_GT(watch.policies(), 3u);
}

TEST(RestoredState, OfAReplicasDirectoryCountsForWhatTheCopyHolds) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const auto durable = [&] { return world.replica_view(0).ends[ack::Level::kDurable]; };
  FakeDisk& disk = world.replica(0).disk;
  const auto log = disk.bytes, state = disk.state;
  const Lsn copied = durable();
  const Lsn end = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == end && durable() == end; }));
  world.replica(0).stop();
  disk.bytes = log, disk.state = state;
  world.network.drop = [](NodeId, NodeId, const protocol::Frame& frame) {
    return std::holds_alternative<protocol::Data>(frame.body);
  };
  world.replica(0).start(world.now);
  world.run(milliseconds(500));
  EXPECT_EQ(durable(), copied);
  world.network.drop = nullptr;
  const Lsn next = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == next; }));
  EXPECT_TRUE(world.disk_holds(0, next));
}

// Nobody who could say that the epoch was used was there: in it a version was given out twice. What comes next is a
// connection of the same process, or the next process: it takes the epoch for its own.
TEST(RestoredState, CountsNobodyByAnotherContentOfAVersionThatWasGivenOutUnheard) {
  for (const bool restarted : {false, true}) {
    World world("ANY 1 (b1, b2)");
    ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
    const State copy = world.primary_state();
    const auto empty_b1 = [&](std::uint64_t log) {
      world.replica(0).stop();
      State empty = first_replica_state(world.members[0], false);
      empty.log_id = LogId{{8, log}};
      empty.standby_ready = true;
      world.replica(0).disk.state = encode(empty);
      world.replica(0).disk.bytes.clear();
      world.replica(0).start(world.now);
    };
    const auto policy_of = [&](std::size_t replica) { return world.replica(replica).durable_state().policy; };
    const auto restart_primary = [&](const State& state) {
      world.stop_primary();
      world.upstream.events.clear();
      world.primary_disk.state = encode(state);
      world.start_primary();
    };
    reconnect(world);
    for (const std::uint64_t log : {1u, 2u}) {
      empty_b1(log);
      ASSERT_TRUE(world.until([&] { return policy_of(1).members.at(0).log_id == LogId{{8, log}}; }));
    }
    const PolicyRecord other = policy_of(1);
    world.replica(1).stop();

    empty_b1(3);
    restart_primary(copy);
    world.connect();
    ASSERT_TRUE(world.until([&] { return world.streaming(0); }, seconds(5)));
    ASSERT_EQ(policy_of(0).version, other.version);
    ASSERT_NE(policy_of(0), other);
    const Epoch used = world.view().epoch;
    restarted ? restart_primary(world.primary_state()) : world.lose_connection();
    world.connect();
    ASSERT_TRUE(world.until([&] { return world.view().epoch > used && world.streaming(0); }));

    world.replica(1).start(world.now);
    bool counted = false;
    ASSERT_TRUE(world.until(
        [&] {
          counted |= world.streaming(1) && policy_of(1) == other;
          return world.all_streaming();
        },
        seconds(5)));
    EXPECT_FALSE(counted) << restarted;
    EXPECT_EQ(policy_of(0), policy_of(1));
  }
}

TEST(PolicyVersions, AreAboveThoseOfEarlierEpochsAndTerms) {
  EXPECT_GT(next_policy_version(7, {1, 2}), next_policy_version(7, {1, 1}));
  EXPECT_GT(next_policy_version(7, {2, 0}), next_policy_version(7, {1, 0xffffff}));
  EXPECT_EQ(next_policy_version(std::uint64_t{9} << 40, {1, 1}), (std::uint64_t{9} << 40) + 1);
  EXPECT_EQ(next_policy_version(7, {0xffffffff, 0xffffffff}), 0xffffffffffff0000u);
}

// Whatever comes between: nothing is used twice, and in the end all is well.
class RestoredStates : public ::testing::TestWithParam<std::uint32_t> {};
TEST_P(RestoredStates, OfAnyAgeAreLeftBehind) {
  std::mt19937 random(GetParam());
  World world("ANY 2 (b1, b2)");
  Watch watch(world);
  std::vector<State> copies;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  for (int step = 0; step < 40; ++step) {
    copies.push_back(world.primary_state());
    switch (random() % 6) {
      case 0:
        start_from(world, watch, copies[random() % copies.size()]);
        break;
      case 1:
        world.policy = random() % 2 == 0 ? "ANY 1 (b1, b2)" : "ANY 2 (b1, b2)";
        start_from(world, watch, world.primary_state());
        break;
      case 2: {
        auto& replica = world.replica(random() % 2);
        replica.stop(), replica.start(world.now);
        break;
      }
      case 3:
        world.lose_connection();
        world.connect();
        break;
      default:
        world.commit();
    }
    world.run(microseconds(static_cast<std::int64_t>(random() % 30'000)));
  }
  expect_well(world);
  ASSERT_TRUE(world.until([&] { return !world.primary_state().pending_policy; }));
  EXPECT_EQ(world.replica(0).durable_state().policy.text, world.policy);
}
INSTANTIATE_TEST_SUITE_P(Seeds, RestoredStates, ::testing::Range(1u, 21u));

}  // namespace
}  // namespace slipstream::node
