// Both nodes over paths that carry less than the port, or less than they did.
#include <gtest/gtest.h>

#include <map>

#include "tests/node/world.h"

namespace slipstream::node {
namespace {

std::size_t bytes_of(const protocol::Frame& frame) {
  if (const auto* data = std::get_if<protocol::Data>(&frame.body))
    return protocol::kDataHeaderBytes + data->payload.size();
  const auto* probe = std::get_if<protocol::PathProbe>(&frame.body);
  return probe ? probe->frame_bytes : 0;
}

class PathMtu : public testing::Test {
 protected:
  PathMtu() {
    world.primary_port.frame_bytes = 8972;
    world.network.drop = [this](NodeId, NodeId to, const protocol::Frame& frame) {
      return carries.contains(to) && bytes_of(frame) > carries[to];
    };
    world.network.seen = [this](NodeId, NodeId to, const protocol::Frame& frame) {
      if (std::holds_alternative<protocol::Data>(frame.body)) longest[to] = std::max(longest[to], bytes_of(frame));
    };
  }
  std::size_t frame_bytes(std::size_t replica) { return world.replica_view(replica).frame_bytes; }
  void begin() {
    world.connect();
    ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
    ASSERT_TRUE(world.until([&] { return frame_bytes(0) > protocol::kControlBytesMax; }));
    world.run(milliseconds(200));
  }
  bool all_hold(Lsn end) { return world.disk_holds(0, end) && world.disk_holds(1, end); }

  World world{"ANY 2 (b1, b2)", 2};
  std::map<NodeId, std::size_t> carries;
  std::map<NodeId, std::size_t> longest;
};

TEST_F(PathMtu, OfOneReplicaChangesNoOthersFrames) {
  carries[NodeId{3}] = 1472;
  begin();
  EXPECT_EQ(frame_bytes(0), 8972u);
  EXPECT_EQ(frame_bytes(1), 1472u);
  longest.clear();
  world.write(400, 2000);
  world.flush();
  ASSERT_TRUE(world.until([&] { return all_hold(world.wal.end()); }));
  EXPECT_EQ(longest[NodeId{2}], 8972u);
  EXPECT_EQ(longest[NodeId{3}], 1472u);
}

TEST_F(PathMtu, ThatShrinksUnderLoadStallsNothingForLong) {
  for (const std::size_t shrunk : {1472u, 1408u, 4000u}) {
    carries.clear();
    begin();
    for (int i = 0; i < 20; ++i) world.write(10, 2000), world.flush(), world.turn();
    carries[NodeId{2}] = shrunk;
    Duration longest_wait{};
    for (int i = 0; i < 30; ++i) {
      world.write(10, 2000);
      world.flush();
      const Instant before = world.now;
      ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); })) << shrunk;
      longest_wait = std::max(longest_wait, world.now - before);
    }
    EXPECT_LT(longest_wait.ns, milliseconds(200).ns) << shrunk;
    world.run(seconds(1));
    EXPECT_LE(frame_bytes(0), shrunk);
    EXPECT_GT(frame_bytes(0) + 16, shrunk);
    EXPECT_EQ(frame_bytes(1), 8972u);
    world.lose_connection();
  }
}

// One in three frames is lost on a path that carries all lengths: it may be suspected, and is found again.
TEST_F(PathMtu, IsFoundAgainAfterLossThatLookedLikeABlackHole) {
  begin();
  std::uint64_t sent = 0;
  world.network.drop = [&](NodeId, NodeId, const protocol::Frame&) { return ++sent % 3 == 0; };
  for (int i = 0; i < 50; ++i) world.write(10, 2000), world.flush(), world.run(milliseconds(1));
  world.network.drop = nullptr;
  ASSERT_TRUE(world.until([&] { return all_hold(world.wal.end()); }));
  ASSERT_TRUE(world.until([&] { return frame_bytes(0) == 8972 && frame_bytes(1) == 8972; }, seconds(70)));
}

}  // namespace
}  // namespace slipstream::node
