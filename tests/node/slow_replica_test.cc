// A replica that does not keep up: served from files, named, back by itself; the others notice nothing.
#include <gtest/gtest.h>

#include "tests/node/world.h"

namespace slipstream::node {
namespace {

constexpr std::size_t kMiB = 1u << 20;

class SlowReplica : public testing::Test {
 protected:
  void begin() {
    world.connect();
    ASSERT_TRUE(world.until([&] { return world.streaming(0) && state() == "streaming"; }));
  }
  // Commits of about `bytes` in all, each of which the other replica acknowledges within `within`.
  void commit_on_the_other(std::size_t bytes, Duration within) {
    for (std::size_t written = 0; written < bytes; written += 64 * 1024) {
      world.write(16, 4000);
      world.flush();
      const Instant before = world.now;
      ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == world.wal.end(); }));
      ASSERT_LE((world.now - before).ns, within.ns);
    }
  }
  std::string state() { return world.replica_view(1).state; }

  World world{"ANY 1 (b1)", 2};
};

TEST_F(SlowReplica, IsNamedWhenItFallsOutOfMemoryAndComesBack) {
  begin();
  world.replica(1).disk.hold_writes = true;  // Its ring fills; then its window is shut.
  commit_on_the_other(10 * kMiB, milliseconds(5));
  EXPECT_EQ(state(), "slow");
  EXPECT_TRUE(world.replica_view(1).reason.starts_with("more than 4.0 MB behind, so served from files; "))
      << world.replica_view(1).reason;
  EXPECT_TRUE(world.streaming(0));
  world.replica(1).disk.hold_writes = false;
  commit_on_the_other(2 * kMiB, milliseconds(5));
  ASSERT_TRUE(world.until([&] { return state() == "streaming"; }, seconds(5)));
  ASSERT_TRUE(world.until([&] { return world.disk_holds(1, world.wal.end()); }));
}

TEST_F(SlowReplica, IsNamedAtABacklogOfOnesChoiceAndReadFromFilesThen) {
  world.stop_primary();
  world.slow_backlog = ByteCount{kMiB};
  world.start_primary();
  begin();
  world.network.drop = [](NodeId, NodeId to, const protocol::Frame&) { return to == NodeId{3}; };
  commit_on_the_other(kMiB / 2, milliseconds(5));
  EXPECT_EQ(state(), "streaming");
  commit_on_the_other(kMiB, milliseconds(5));
  EXPECT_EQ(state(), "slow");
  world.network.drop = nullptr;
  ASSERT_TRUE(world.until([&] { return world.disk_holds(1, world.wal.end()); }, seconds(5)));
  EXPECT_EQ(state(), "streaming");
  EXPECT_TRUE(world.replica_view(1).reason.empty()) << world.replica_view(1).reason;
}

}  // namespace
}  // namespace slipstream::node
