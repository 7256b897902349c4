#include "postgres/forced_flush.h"

#include "tests/postgres/upstream_watch.h"

// What PostgreSQL is made to flush before a replication connection.
namespace slipstream::postgres {
namespace {

using namespace real;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class ForcedFlush : public testing::Test {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << kMissing;
    give_to_database_user(place.path());
    server.initialise();
    server.configure({{"wal_writer_delay", "10s"}, {"autovacuum", "off"}});  // Nobody else flushes soon.
    server.start();
    server.sql("CREATE TABLE public.t (i int)");
  }
  // Where WAL ends that nobody has flushed yet.
  Lsn insert_unflushed() {
    server.sql("SET synchronous_commit = off; INSERT INTO public.t SELECT generate_series(1, 100)");
    return parse_lsn(server.sql("SELECT pg_current_wal_insert_lsn()")).value_or(Lsn{});
  }
  std::string walsenders() {
    return server.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'");
  }

  UpstreamOptions options(const std::string& more = "") const {
    const auto stale = [](Lsn, TimelineId) { return Lsn{UINT64_MAX}; };
    return {server.conninfo(more), "slipstream", "slipstream", {}, {}, stale, true};
  }
  // The connection is lost although the data thread does nothing.
  UpstreamOptions on_own_thread() const {
    UpstreamOptions out = options();
    out.on_data_thread = false;
    return out;
  }

  feed_test::Place place;
  Server server{place / "primary", 7401};
};

TEST_F(ForcedFlush, ANewConnectionsFlushedPositionCoversAllThatWasInsertedBefore) {
  Watch upstream(options());
  ASSERT_TRUE(upstream.connects());
  EXPECT_TRUE(upstream.connected[0].all_flushed);
  const Lsn inserted = insert_unflushed();
  ASSERT_LT(server.flushed(), inserted);
  upstream->reconnect();
  ASSERT_TRUE(upstream.connects(2));
  EXPECT_GE(upstream.connected[1].flushed_end, inserted);
  EXPECT_TRUE(upstream.connected[1].all_flushed);
  EXPECT_EQ(server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slipstream_flush'"), "0");
}

TEST_F(ForcedFlush, IsNotDoneWhereNothingGoesAhead) {
  Watch upstream(server);
  ASSERT_TRUE(upstream.connects());
  const Lsn inserted = insert_unflushed();
  upstream->reconnect();
  ASSERT_TRUE(upstream.connects(2));
  EXPECT_LT(upstream.connected[1].flushed_end, inserted);
  EXPECT_FALSE(upstream.connected[1].all_flushed);
  EXPECT_EQ(upstream.connected[1].stale_end, Lsn{UINT64_MAX});
  EXPECT_FALSE(upstream->problem());
}

TEST_F(ForcedFlush, WaitsForNoReplicaWhateverTheServersDefaultsAre) {
  server.sql("ALTER DATABASE postgres SET synchronous_commit = remote_apply");
  server.sql("ALTER DATABASE postgres SET default_transaction_read_only = on");
  server.set("synchronous_standby_names", "slipstream");
  Watch upstream(options());
  const auto began = Clock::now();
  ASSERT_TRUE(upstream.connects());
  EXPECT_LT(Clock::now() - began, 5s);
  EXPECT_TRUE(upstream.connected[0].all_flushed);
}

TEST_F(ForcedFlush, WhatKeepsItFromBeingDoneIsNamedAndTheStreamGoesOn) {
  server.sql("CREATE ROLE streamer LOGIN REPLICATION");
  server.sql("GRANT pg_monitor TO streamer");
  server.sql("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC");
  Watch upstream(options("user=streamer"));
  ASSERT_TRUE(upstream.connects());
  EXPECT_FALSE(upstream.connected[0].all_flushed);
  const std::string remedy = "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO name";
  EXPECT_NE(upstream.problem_with(remedy).find(remedy), std::string::npos);
  server.sql("GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO streamer");
  upstream->reconnect();
  ASSERT_TRUE(upstream.connects(2));
  EXPECT_TRUE(upstream.connected[1].all_flushed);
  EXPECT_TRUE(eventually([&] { return !upstream->problem(); }));
}

TEST_F(ForcedFlush, ComesOnlyAfterTheLossOfTheConnectionBeforeWasTaken) {
  Watch upstream(on_own_thread());
  ASSERT_TRUE(upstream.connects());
  upstream->reconnect();
  ASSERT_TRUE(eventually([&] { return walsenders() == "0"; }));
  const Lsn inserted = insert_unflushed();
  std::this_thread::sleep_for(500ms);
  EXPECT_EQ(walsenders(), "0") << "something may still be shipped for the connection before";
  EXPECT_LT(server.flushed(), inserted);
  upstream.take();
  EXPECT_EQ(upstream.lost, 1);
  ASSERT_TRUE(upstream.connects(2));
  EXPECT_GE(upstream.connected[1].flushed_end, inserted);
}

TEST_F(ForcedFlush, StopsWhileTheLossIsNotTaken) {
  auto upstream = std::make_unique<Watch>(on_own_thread());
  ASSERT_TRUE(upstream->connects());
  (*upstream)->reconnect();
  ASSERT_TRUE(eventually([&] { return walsenders() == "0"; }));
  const auto began = Clock::now();
  upstream.reset();
  EXPECT_LT(Clock::now() - began, 2s);
}

TEST_F(ForcedFlush, KnowsWhenItReachedAnotherServerThanTheStream) {
  const auto flushed = force_flush(server.conninfo(), "slipstream_flush", 1, {-1, seconds(10)});
  ASSERT_FALSE(flushed.has_value());
  EXPECT_NE(flushed.error().message().find("another server"), std::string::npos) << flushed.error().message();
}

TEST_F(ForcedFlush, AsksAboutStalePagesWithThePositionThatTheStreamBeginsAt) {
  LsnRange asked{};
  TimelineId timeline{};
  UpstreamOptions asking = options();
  asking.stale_end = [&](Lsn flushed_end, TimelineId on) {
    timeline = on;
    return asked = {flushed_end, flushed_end + ByteCount{12345}}, asked.end;
  };
  Watch upstream(std::move(asking));
  ASSERT_TRUE(upstream.connects());
  EXPECT_EQ(upstream.connected[0].stale_end, asked.end);
  EXPECT_EQ(upstream.connected[0].flushed_end, asked.begin);
  EXPECT_EQ(timeline, TimelineId{1});
}

}  // namespace
}  // namespace slipstream::postgres
