#include <gtest/gtest.h>

#include "tests/node/world.h"

// A greeting and its adoption come once more when the process that answered is gone, and with it what it had in memory.
namespace slipstream::node {
namespace {

constexpr NodeId kReplicaId{2};

// What the primary said in its handshake with the replica, to be said again.
class Handshake {
 public:
  explicit Handshake(World& world) : world_(world) {
    world.network.carried = [this](NodeId from, NodeId, const Network::Wire& bytes) {
      protocol::Frame frame;
      if (from != kPrimaryId || protocol::decode(bytes, frame) != protocol::Verdict::kAccepted) return;
      if (std::holds_alternative<protocol::Hello>(frame.body)) hello_ = bytes;
      if (std::holds_alternative<protocol::Adopt>(frame.body)) adopt_ = bytes;
    };
  }
  void keep() { world_.network.carried = nullptr; }
  void repeat_hello() { world_.network.inject(kReplicaId, hello_); }
  void repeat_adopt() { world_.network.inject(kReplicaId, adopt_); }

 private:
  World& world_;
  Network::Wire hello_, adopt_;
};

void expect_well(World& world) {
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }, seconds(5)))
      << world.replica_view(0).state << ", itself " << world.replica(0).view(world.now).state;
}

// Where its log was not adopted again the replica refuses what follows (kept_before_told_test).
TEST(RepeatedGreeting, WithItsAdoptionIsNotedByAnAckOfLessThanBefore) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  Handshake handshake(world);
  world.lose_connection();
  world.connect();  // Nothing is shipped after this handshake: the log ends where it was adopted.
  world.run(milliseconds(10));
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  handshake.keep();
  ReplicaHost& host = world.replica(0);
  host.disk.hold_writes = true;
  const Lsn received = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.write == received; }));
  host.stop();
  host.disk.hold_writes = false;
  host.start(world.now);
  // Nothing of what the primary says now comes before the session seems to be open again.
  world.network.drop = [](NodeId from, NodeId, const protocol::Frame&) { return from == kPrimaryId; };
  handshake.repeat_hello();
  ASSERT_TRUE(world.until([&] { return host.view(world.now).state == "comparing"; }));
  handshake.repeat_adopt();
  ASSERT_TRUE(world.until([&] { return host.view(world.now).state == "receiving"; }));
  world.network.drop = nullptr;
  expect_well(world);
}

}  // namespace
}  // namespace slipstream::node
