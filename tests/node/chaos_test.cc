#include <gtest/gtest.h>

#include <random>

#include "tests/node/world.h"

// Random crashes, losses and restarts, a seed each; every turn is checked.
namespace slipstream::node {
namespace {

class Chaos : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  static constexpr std::size_t kReplicas = 3;

  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  // Earlier bytes were looked at in earlier turns, and all of them are at the end.
  static Lsn lately(Lsn end) { return {std::max(kLogBegin.value, end.value > 65'536 ? end.value - 65'536 : 0)}; }

  // What was ever reported as flushed is on the disks of two of three, as recovery would find it.
  void check(World& world) {
    const Lsn reported = world.upstream.last.flush;
    ASSERT_LE(reported, world.wal.end());
    most_reported_ = std::max(most_reported_, reported);
    std::size_t holding = 0;
    for (std::size_t i = 0; i < kReplicas; ++i) {
      holding += world.disk_holds(i, most_reported_, lately(most_reported_));
      const Lsn fed = world.replica(i).standby.last.fed_end;
      ASSERT_TRUE(world.disk_holds(i, fed, lately(fed))) << "fed what is not on disk";
    }
    ASSERT_GE(holding, 2u) << to_string(most_reported_) << " is held by " << holding;
    for (std::size_t i = 0; i < kReplicas; ++i) {
      if (!world.replica(i).node) continue;
      const auto view = world.replica(i).view(world.now);
      ASSERT_GE(view.received_end, view.synced_end);
      ASSERT_GE(view.synced_end, view.durable_end);
      ASSERT_GE(view.durable_end, view.fed_end);
    }
  }

  void disturb(World& world) {
    const auto happened = [&] { return chance(0.5); };
    ReplicaHost& host = world.replica(below(kReplicas));
    if (chance(0.001) && host.node) {
      host.disk.crash(happened);
      host.stop();
    } else if (chance(0.02) && !host.node) {
      host.start(world.now);
    } else if (chance(0.0003) && world.connected) {
      world.lose_connection();
    } else if (chance(0.02) && !world.connected && world.primary) {
      world.connect();
    } else if (chance(0.0003) && world.primary) {
      world.primary_disk.crash(happened);
      world.stop_primary();
      world.connected = false;
      world.upstream.events.clear();
    } else if (chance(0.02) && !world.primary) {
      world.start_primary();
      world.connect();
    } else if (chance(0.003)) {
      host.disk.hold_writes = !host.disk.hold_writes;
    }
  }

  std::mt19937 random_{GetParam()};
  Lsn most_reported_{};
};

TEST_P(Chaos, LosesNothingThatWasReportedAndEndsWithEqualLogs) {
  World world("ANY 2 (b1, b2, b3)", kReplicas);
  const double loss = static_cast<double>(below(3)) * 0.05;
  world.network.drop = [&](NodeId, NodeId, const protocol::Frame&) { return chance(loss); };
  for (int turn = 0; turn < 15'000; ++turn) {
    disturb(world);
    if (chance(0.05)) world.write(1 + below(3), below(chance(0.1) ? 200'000 : 600));
    if (chance(0.05)) world.flush();
    world.turn();
    if (turn % 5 == 0) check(world);
    if (HasFatalFailure()) FAIL() << "seed " << GetParam() << ", turn " << turn;
  }
  EXPECT_GT(most_reported_, kLogBegin + ByteCount{10'000}) << "nothing happened";
  for (auto& host : world.replicas) {
    host->disk.hold_writes = false;
    if (!host->node) host->start(world.now);
  }
  if (!world.primary) world.start_primary();
  if (!world.connected) world.connect();
  world.commit();
  world.network.drop = nullptr;
  EXPECT_TRUE(world.until([&] { return world.upstream.last.apply == world.wal.end(); }, seconds(20)))
      << world.view().state << " " << to_string(world.upstream.last.apply) << " of " << to_string(world.wal.end());
  for (std::size_t i = 0; i < kReplicas; ++i)
    EXPECT_TRUE(world.until([&] { return world.disk_holds(i, world.wal.end()); }, seconds(20)))
        << world.replica_view(i).state << world.replica_view(i).reason;
}

INSTANTIATE_TEST_SUITE_P(Seeds, Chaos, ::testing::Range(1u, 7u));

}  // namespace
}  // namespace slipstream::node
