#include <gtest/gtest.h>

#include "tests/node/world.h"

// A welcome that comes late, from before the replica's restart: the same greeting was answered again since.
namespace slipstream::node {
namespace {

constexpr NodeId kReplicaId{2};

// Keeps the replica's welcomes back.
class Welcomes {
 public:
  explicit Welcomes(World& world) : world_(world) {
    world.network.drop = [this](NodeId from, NodeId, const protocol::Frame& frame) {
      if (from != kReplicaId || !std::holds_alternative<protocol::Welcome>(frame.body)) return false;
      Network::Wire bytes(protocol::kControlBytesMax);
      bytes.resize(protocol::encode(frame.header, frame.body, bytes));
      latest_ = std::move(bytes);
      return true;
    };
  }
  void deliver() {
    world_.network.drop = nullptr;
    world_.network.inject(kPrimaryId, latest_);
  }
  bool any() const { return !latest_.empty(); }

 private:
  World& world_;
  Network::Wire latest_;
};

void expect_well(World& world) {
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }, seconds(5))) << world.replica_view(0).state;
  const Lsn end = world.commit();
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == end; }));
}

// A session, then one whose greeting is answered and whose answers are on their way still.
void greet_again(World& world, Welcomes& welcomes) {
  world.lose_connection();
  world.connect();
  ASSERT_TRUE(world.until([&] { return welcomes.any(); }));
}

TEST(LateWelcome, OfADirectoryThatIsGoneHoldsNoSessionUp) {
  World world("ANY 1 (b1)", 1);
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  world.commit(20'000);
  world.run(milliseconds(50));
  Welcomes welcomes(world);
  greet_again(world, welcomes);
  ReplicaHost& host = world.replica(0);
  host.stop();
  State empty = first_replica_state(host.member, false);
  empty.standby_ready = true;
  empty.log_id = LogId{{8, 8}};
  host.disk.state = encode(empty);
  host.disk.bytes.clear();
  host.start(world.now);
  world.run(milliseconds(300));
  welcomes.deliver();
  expect_well(world);
}

TEST(LateWelcome, OfAnEmptyLogThatAnotherOneReplacedHoldsNoSessionUp) {
  World world("ANY 1 (b1)", 1);
  Welcomes welcomes(world);
  ASSERT_TRUE(world.until([&] { return welcomes.any(); }));
  ReplicaHost& host = world.replica(0);
  host.stop();
  State other = first_replica_state(host.member, false);
  other.standby_ready = true;
  other.log_id = LogId{{8, 8}};
  // Its log holds a record, found when it is opened: what is asked to be adopted is not where it ends.
  const Lsn end = world.commit(300);
  host.disk.state = encode(other);
  const auto bytes = world.wal.at({kLogBegin, end});
  host.disk.bytes.assign(bytes.begin(), bytes.end());
  host.start(world.now);
  world.run(milliseconds(300));
  welcomes.deliver();
  expect_well(world);
}

}  // namespace
}  // namespace slipstream::node
