#include "node/not_held.h"

#include <gtest/gtest.h>

#include "tests/node/world.h"

// Commits that PostgreSQL let return without us are marked, durably and where a promotion finds it (R2).
namespace slipstream::node {
namespace {

Marks marks(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> all) {
  Marks out;
  for (const auto& [begin, end] : all) out.push_back({Lsn{begin}, Lsn{end}});
  return out;
}

TEST(Marks, ThatBeginWithinAnEarlierOneAreOneWithIt) {
  Marks all = marks({{10, 20}, {30, 40}});
  open_mark(all, Lsn{35});
  EXPECT_TRUE(has_open_mark(all));
  EXPECT_EQ(all, marks({{10, 20}, {30, UINT64_MAX}}));
  close_mark(all, Lsn{50});
  EXPECT_EQ(all, marks({{10, 20}, {30, 50}}));
}

TEST(Marks, ThatAreEmptyWhenTheyCloseAreNone) {
  Marks all;
  open_mark(all, Lsn{35});
  close_mark(all, Lsn{35});
  EXPECT_TRUE(all.empty());
}

TEST(Marks, AreJoinedRatherThanForgottenWhenThereAreTooMany) {
  Marks all;
  for (std::uint64_t at = 1; at <= 20; ++at) {
    open_mark(all, Lsn{100 * at});
    close_mark(all, Lsn{100 * at + 50});
  }
  ASSERT_EQ(all.size(), kMarksMax);
  EXPECT_EQ(all.front().begin, Lsn{100});
  EXPECT_EQ(all.back(), (LsnRange{Lsn{2000}, Lsn{2050}}));
}

TEST(Marks, OfAReplicaAreWhatThePrimaryTellsWithoutWhatItHolds) {
  EXPECT_EQ(marks_after_update(marks({{10, UINT64_MAX}}), marks({{10, 50}}), Lsn{60}, Lsn{20}), marks({{10, 50}}));
  EXPECT_EQ(marks_after_update(marks({{10, 50}}), {}, Lsn{60}, Lsn{50}), Marks{});
  EXPECT_EQ(marks_after_update({}, marks({{10, 50}, {60, 70}}), Lsn{70}, Lsn{50}), marks({{60, 70}}));
}

TEST(Marks, OfAReplicaOutliveAPrimaryThatForgotThem) {
  EXPECT_EQ(marks_after_update(marks({{10, UINT64_MAX}}), {}, Lsn{60}, Lsn{20}), marks({{10, 60}}));
  EXPECT_EQ(marks_after_update(marks({{10, UINT64_MAX}}), marks({{50, UINT64_MAX}}), Lsn{60}, Lsn{20}),
            marks({{10, UINT64_MAX}}));
}

// ---- The nodes

struct Names : World {
  Names() : World("ANY 1 (b1, b2)") {}
  void set(bool contain) {
    upstream.events.push_back(UpstreamSyncNames{contain, contain ? "slipstream" : "", wal.end()});
  }
  // As the SQL session tells them for a while.
  void keep_set(bool contain, Duration duration) {
    for (const Instant end = now + duration; now < end; run(milliseconds(200))) set(contain);
  }
  bool open_on(std::size_t index) { return has_open_mark(replica(index).durable_state().not_held); }
};

TEST(NotHeld, IsDurableOnTheReplicasAndHereWhileTheNamesDoNotContainUs) {
  Names world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn held = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == held; }));
  world.set(false);
  ASSERT_TRUE(world.until([&] { return world.open_on(0) && world.open_on(1) && world.all_streaming(); }));
  EXPECT_EQ(world.replica(0).durable_state().not_held, (Marks{{held, kOpenEnd}}));
  EXPECT_EQ(world.primary_state().not_held, (Marks{{held, kOpenEnd}}));
  EXPECT_EQ(world.replica(0).view(world.now).not_held, (Marks{{held, kOpenEnd}}));
  EXPECT_EQ(world.view().not_held, (Marks{{held, kOpenEnd}}));
  EXPECT_EQ(world.replica(0).node->evidence().not_held, (Marks{{held, kOpenEnd}}));
  const Lsn more = world.commit();  // What is reported does not change.
  EXPECT_TRUE(world.until([&] { return world.upstream.last.flush == more; }));
  EXPECT_EQ(world.replica(0).durable_state().not_held, (Marks{{held, kOpenEnd}}));
}

TEST(NotHeld, BeginsWhereTheQuorumEndedNotWhereItWasNoticed) {
  Names world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn held = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == held; }));
  for (auto& host : world.replicas) host->disk.hold_writes = true;
  world.commit();  // Waits, and returns with the change of the names.
  world.run(milliseconds(5));
  world.set(false);
  world.run(milliseconds(5));
  EXPECT_EQ(world.view().not_held, (Marks{{held, kOpenEnd}}));
}

TEST(NotHeld, EndsOnceTheNamesContainUsForAWhileAndIsDroppedWhenAllMembersHoldIt) {
  Names world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn held = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == held; }));
  world.set(false);
  ASSERT_TRUE(world.until([&] { return world.open_on(0) && world.open_on(1); }));
  world.replica(1).stop();  // Misses the rest.
  const Lsn end = world.commit();
  world.keep_set(true, milliseconds(1500));
  EXPECT_TRUE(has_open_mark(world.view().not_held)) << "PostgreSQL's checkpointer may not have seen the change";
  world.keep_set(true, milliseconds(1000));
  ASSERT_TRUE(world.until([&] { return !world.open_on(0); }));
  EXPECT_EQ(world.view().not_held, (Marks{{held, end}})) << "b2 lacks it";
  EXPECT_TRUE(world.replica(0).view(world.now).not_held.empty()) << "b1 holds all of it";
  world.replica(1).start(world.now);
  ASSERT_TRUE(world.until([&] { return world.view().not_held.empty(); }, seconds(5)));
  ASSERT_TRUE(world.until([&] { return world.replica(1).durable_state().not_held.empty(); }));
  EXPECT_TRUE(world.until([&] { return world.primary_state().not_held.empty(); }));
  EXPECT_TRUE(world.until([&] { return world.all_streaming(); }));
}

TEST(NotHeld, SurvivesTheDaemonAndClosesInItsNextLife) {
  Names world;
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  const Lsn held = world.commit();
  ASSERT_TRUE(world.until([&] { return world.upstream.last.flush == held; }));
  world.set(false);
  ASSERT_TRUE(world.until([&] { return world.open_on(0) && world.open_on(1); }));
  world.stop_primary();
  world.upstream.events.clear();
  world.start_primary();
  world.upstream.last = {};
  world.connect();  // Names that contain us are told at once.
  ASSERT_TRUE(world.until([&] { return world.all_streaming(); }));
  EXPECT_EQ(world.view().not_held, (Marks{{held, kOpenEnd}}));
  world.keep_set(true, milliseconds(2500));
  EXPECT_TRUE(
      world.until([&] { return !world.open_on(0) && !world.open_on(1) && world.view().not_held.empty(); }, seconds(5)));
}

TEST(NotHeld, IsNothingWhereNothingIsPromised) {
  World world("", 1);
  world.upstream.events.push_back(UpstreamSyncNames{false, ""});
  world.run(milliseconds(500));
  EXPECT_FALSE(world.view().counted_by_postgres);
  EXPECT_TRUE(world.view().not_held.empty());
}

TEST(NotHeld, ReachesAReplicaThatComesLater) {
  Names world;
  world.replica(1).stop();
  ASSERT_TRUE(world.until([&] { return world.streaming(0); }));
  world.set(false);
  world.run(milliseconds(50));
  EXPECT_TRUE(world.open_on(0));
  world.replica(1).start(world.now);
  EXPECT_TRUE(world.until([&] { return world.open_on(1); }));
}

}  // namespace
}  // namespace slipstream::node
