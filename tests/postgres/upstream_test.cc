#include "postgres/upstream.h"

#include <signal.h>

#include "base/digest.h"
#include "tests/postgres/upstream_watch.h"
#include "wal/io/file_segment_source.h"

// The upstream against a real PostgreSQL.
namespace slipstream::postgres {
namespace {

using namespace real;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Read and written by a thread of its own, and by the data thread.
class Upstream : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << kMissing;
    give_to_database_user(place.path());
  }
  void start(const Server::Settings& settings = {}) {
    server.initialise();
    server.configure(settings);
    server.start();
    server.sql("CREATE TABLE public.t (i int)");
  }
  void make_us_synchronous() { server.set("synchronous_standby_names", "slipstream"); }
  bool commit_waits() {
    return eventually(
        [&] { return server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"; });
  }
  struct FastStop {
    std::chrono::milliseconds took;
    bool dropped = false;  // By us, for want of a quorum.
  };
  FastStop stop_fast(Watch& upstream) {
    FastStop out{};
    const auto began = Clock::now();
    const auto look = [&] {
      upstream.take();
      const auto problem = upstream->problem();
      out.dropped |= problem && problem->what == "PostgreSQL is stopping";
    };
    for (server.begin_stop(SIGINT); !server.stopped_within(5ms) && since(began) < 20s;) look();
    look();
    out.took = since(began);
    return out;
  }
  // PostgreSQL waits for its walsender, and that for an answer.
  bool stops(Watch& upstream) {
    server.begin_stop(SIGINT);
    return upstream.until([&] { return server.stopped_within(5ms); });
  }
  static std::chrono::milliseconds since(Clock::time_point began) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began);
  }

  feed_test::Place place;
  Server server{place / "primary", 7401};
};

INSTANTIATE_TEST_SUITE_P(OwnThreadAndDataThread, Upstream, testing::Bool(),
                         [](const auto& each) { return each.param ? "DataThread" : "OwnThread"; });

TEST_P(Upstream, GivesTheDigestsOfTheFilesBytesInContiguousPieces) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  const node::UpstreamConnected up = upstream.connected[0];
  EXPECT_EQ(std::to_string(up.system.value), server.sql("SELECT system_identifier FROM pg_control_system()"));
  EXPECT_EQ(up.timeline, TimelineId{1});
  EXPECT_EQ(up.segment_size, ByteCount{1 << 20});
  EXPECT_EQ(up.server_version_num / 10000, 15u);
  EXPECT_EQ(up.stream_begin, align_down(up.flushed_end, wal::kPageBytes));

  must({program("pgbench"), "-h", place.path(), "-p", "7401", "-U", "postgres", "-i", "-q", "postgres"});
  must({program("pgbench"), "-h", place.path(), "-p", "7401", "-U", "postgres", "-n", "-c", "3", "-t", "150",
        "postgres"});
  server.sql("INSERT INTO public.t SELECT generate_series(1, 100000)");
  const Lsn end = server.flushed();
  ASSERT_TRUE(upstream.reaches(end));

  wal::io::FileSegmentSource files(server.wal(), wal::SegmentLayout(up.segment_size));
  Lsn at = up.stream_begin;
  std::size_t largest = 0;
  for (const node::UpstreamChunk& chunk : upstream.chunks) {
    ASSERT_EQ(chunk.range.begin, at);
    ASSERT_FALSE(chunk.range.empty());
    std::vector<std::byte> bytes(chunk.range.size().value);
    largest = std::max(largest, bytes.size());
    ASSERT_EQ(at.value >> 20, (chunk.range.end.value - 1) >> 20) << "crosses 1 MiB at " << to_string(at);
    ASSERT_EQ(files.read(at, bytes), bytes.size());
    ASSERT_EQ(xxh3_64(bytes), chunk.digest) << "at " << to_string(at);
    at = chunk.range.end;
  }
  EXPECT_GT((at - up.stream_begin).value, 12u << 20);
  EXPECT_LE(largest, 128u * 1024);
  EXPECT_GT(largest, 64u * 1024) << "large writes come in large pieces";
}

TEST_P(Upstream, ACommitReturnsWhenTheReportCoversItAtItsLevelAndNotBefore) {
  start();
  make_us_synchronous();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  ASSERT_TRUE(upstream.until([&] { return upstream.names->contains_us; }));
  for (const std::string level : {"on", "remote_write", "remote_apply"}) {
    const Lsn before = upstream.end();
    Commit commit(server, level);
    ASSERT_TRUE(commit_waits()) << level;
    const Lsn end = server.flushed();
    ASSERT_TRUE(upstream.reaches(end));
    // Each of write, flush, apply in turn: the commit returns with the one that counts.
    for (const std::string covered : {"remote_write", "on", "remote_apply"}) {
      EXPECT_FALSE(commit.returned_within(300ms)) << level << " before " << covered;
      const node::Report report{end, covered == "remote_write" ? before : end,
                                covered == "remote_apply" ? end : before};
      upstream->report(report);
      const std::string reported =
          to_string(report.write) + " " + to_string(report.flush) + " " + to_string(report.apply);
      EXPECT_TRUE(eventually([&] {
        return server.sql("SELECT write_lsn || ' ' || flush_lsn || ' ' || replay_lsn FROM pg_stat_replication") ==
               reported;
      })) << "neither more nor less";
      if (covered == level) break;
    }
    EXPECT_TRUE(commit.returned_within(5s)) << level;
    EXPECT_EQ(commit.outcome(), "returned");
  }
}

TEST_P(Upstream, AWaitingCommitOutlivesWalSenderTimeoutAndIsNotAnswered) {
  start({{"wal_sender_timeout", "2s"}});
  make_us_synchronous();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  Commit commit(server, "on");
  ASSERT_TRUE(commit_waits());
  upstream.idle(4500ms);
  EXPECT_FALSE(commit.returned_within(0ms));
  EXPECT_EQ(upstream.connected.size(), 1u);
  EXPECT_EQ(upstream.lost + upstream.stopping, 0);
  const Lsn end = upstream.end();
  upstream->report({end, end, end});
  EXPECT_TRUE(commit.returned_within(5s));
}

TEST_P(Upstream, TheConnectionOutlivesWalSenderTimeoutWhileNoEventsAreWanted) {
  start({{"wal_sender_timeout", "1s"}});
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  for (const auto began = Clock::now(); since(began) < 3s; std::this_thread::sleep_for(10ms)) upstream->report({});
  upstream.idle(300ms);
  EXPECT_EQ(upstream.lost, 0);
}

TEST_P(Upstream, AFastStopIsPromptWithoutAQuorumAndAcknowledgesNothing) {
  start();
  make_us_synchronous();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  Commit commit(server, "on");
  ASSERT_TRUE(commit_waits());
  const FastStop stop = stop_fast(upstream);
  EXPECT_LT(stop.took, 4s);
  EXPECT_TRUE(stop.dropped) << "the walsender was told of something that nobody holds";
  EXPECT_TRUE(upstream.until([&] { return upstream.lost == 1; }));
  EXPECT_GE(upstream.stopping, 1);
  EXPECT_NE(commit.outcome(), "returned");
  // What a fast stop wrote last was streamed all the same.
  server.start();
  EXPECT_TRUE(upstream.connects(2));
  EXPECT_EQ(upstream.lost, 1);
}

TEST_P(Upstream, AFastStopIsPromptAlsoWhenTheSqlSessionCannotTell) {
  start();
  server.sql("CREATE ROLE streamer LOGIN REPLICATION");
  std::ofstream(server.directory() / "pg_hba.conf")
      << "local replication all trust\nlocal all streamer reject\nlocal all all trust\n";
  server.sql("SELECT pg_reload_conf()");
  Watch upstream(server, "user=streamer", GetParam());
  ASSERT_TRUE(upstream.until([&] { return upstream.connected.size() == 1; }));
  EXPECT_NE(upstream.problem_with("pg_hba.conf").find("pg_hba.conf"), std::string::npos)
      << "the missing SQL session is named";
  EXPECT_FALSE(upstream.connected[0].all_flushed);
  ASSERT_TRUE(upstream.reaches(server.flushed()));
  const FastStop stop = stop_fast(upstream);
  EXPECT_LT(stop.took, 4s);
  EXPECT_TRUE(stop.dropped);
  EXPECT_GE(upstream.stopping, 1);
}

TEST_P(Upstream, AFastStopWaitsForAQuorumThatIsThereAndEndsTheStreamInOrder) {
  start();
  Watch upstream(server, "", GetParam());
  upstream.confirms_everything = true;
  ASSERT_TRUE(upstream.connects());
  server.sql("INSERT INTO public.t VALUES (1)");
  ASSERT_TRUE(upstream.reaches(server.flushed()));
  const FastStop stop = stop_fast(upstream);
  EXPECT_LT(stop.took, 4s);
  EXPECT_FALSE(stop.dropped) << "the walsender left by itself";
  EXPECT_TRUE(upstream.until([&] { return upstream.lost == 1; }));
  const Outcome control = run({program("pg_controldata"), "-D", server.directory()});
  const auto at = control.output.find("Latest checkpoint location:");
  const auto checkpoint = parse_lsn(control.output.substr(at + 27, control.output.find('\n', at) - at - 27)
                                        .substr(control.output.substr(at + 27).find_first_not_of(' ')));
  ASSERT_TRUE(checkpoint) << control.output;
  EXPECT_GT(upstream.end(), *checkpoint) << "the stop's own checkpoint was streamed";
}

TEST_P(Upstream, ARestartLosesTheConnectionAndMakesItAnew) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  ASSERT_TRUE(stops(upstream));
  ASSERT_TRUE(upstream.until([&] { return upstream.lost == 1; }));
  EXPECT_NE(upstream.problem_with("is PostgreSQL running there?").find("is PostgreSQL running there?"),
            std::string::npos);
  server.start();
  ASSERT_TRUE(upstream.connects(2));
  EXPECT_TRUE(eventually([&] { return !upstream->problem(); }));
  server.sql("INSERT INTO public.t VALUES (1)");
  EXPECT_TRUE(upstream.reaches(server.flushed()));
}

TEST_P(Upstream, SendsNoReportOfAnEarlierConnection) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  upstream->report({Lsn{0x7000000}, Lsn{0x7000000}, Lsn{0x7000000}});
  ASSERT_TRUE(eventually([&] { return server.sql("SELECT flush_lsn FROM pg_stat_replication") == "0/7000000"; }));
  upstream->reconnect();
  ASSERT_TRUE(upstream.connects(2));
  upstream.idle(300ms);
  EXPECT_EQ(server.sql("SELECT coalesce(flush_lsn::text, 'nothing') FROM pg_stat_replication"), "nothing");
}

TEST_P(Upstream, StopsWhileTheServerHangs) {
  start();
  auto upstream = std::make_unique<Watch>(server);
  ASSERT_TRUE(upstream->connects());
  server.suspend();
  std::this_thread::sleep_for(500ms);  // Its SQL session is asking something.
  auto began = Clock::now();
  (*upstream)->stop();
  EXPECT_LT(since(began), 2s);
  upstream.reset();

  auto late = std::make_unique<Watch>(server);
  std::this_thread::sleep_for(300ms);  // It is connecting.
  EXPECT_TRUE(late->connected.empty());
  began = Clock::now();
  late.reset();
  EXPECT_LT(since(began), 2s);
}

TEST_P(Upstream, MovesItsSlotForwardAndAsksForNothingThatPostgresqlWouldLogAsAnError) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  const std::string slot = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'slipstream'";
  ASSERT_TRUE(eventually([&] { return !server.sql(slot).empty(); }));
  const auto first = parse_lsn(server.sql(slot));
  server.sql("INSERT INTO public.t SELECT generate_series(1, 1000)");
  const Lsn middle = server.flushed();
  upstream->advance_slot(middle);
  EXPECT_TRUE(eventually([&] { return server.sql(slot) == to_string(middle); }));
  upstream->advance_slot(*first);
  upstream.idle(1500ms);
  upstream->advance_slot(middle + ByteCount{1u << 30});
  EXPECT_TRUE(eventually([&] { return server.sql(slot) == to_string(server.flushed()); }))
      << "never past what is flushed";
  EXPECT_EQ(server.log().find("ERROR"), std::string::npos) << server.log();
}

TEST_P(Upstream, FollowsSynchronousStandbyNames) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  EXPECT_FALSE(upstream.names->contains_us);
  for (const auto& [names, contains] :
       std::map<std::string, bool>{{"FIRST 1 (slipstream)", true}, {"ANY 1 (slipstream, other)", false}}) {
    server.set("synchronous_standby_names", names);
    EXPECT_TRUE(upstream.until([&] { return upstream.names->value == names; }));
    EXPECT_EQ(upstream.names->contains_us, contains) << names;
  }
}

// ---- What can be wrong

TEST_P(Upstream, RepeatsTheNamesWithAFlushedPositionThatGoesOn) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  server.sql("INSERT INTO public.t VALUES (1)");
  const Lsn flushed = server.flushed();
  EXPECT_TRUE(upstream.until([&] { return upstream.names->flushed_end >= flushed; }));
}

TEST_P(Upstream, HoldsVacuumBackAsTheFeedbackSaysAndNoLonger) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  const auto held = [&] { return server.sql("SELECT coalesce(backend_xmin::text, 'none') FROM pg_stat_replication"); };
  upstream.idle(300ms);
  EXPECT_EQ(held(), "none");
  const std::string xid = server.sql("SELECT txid_current()"), later = server.sql("SELECT txid_current()");
  upstream->feedback({std::stoull(later), std::stoull(xid)});
  EXPECT_TRUE(upstream.until([&] { return held() == xid; })) << held() << ": without a slot the older of both counts";
  upstream->feedback({std::stoull(later), 0});
  EXPECT_TRUE(upstream.until([&] { return held() == later; })) << held();
  upstream->feedback({});
  EXPECT_TRUE(upstream.until([&] { return held() == "none"; })) << held();
}

TEST_P(Upstream, NamesWhatIsWrongWithTheRole) {
  start({{"max_wal_senders", "1"}});
  server.sql("CREATE ROLE plain LOGIN");
  server.sql("CREATE ROLE locked LOGIN REPLICATION PASSWORD 'the right one'");
  std::ofstream(server.directory() / "pg_hba.conf")
      << "local all locked scram-sha-256\nlocal replication locked scram-sha-256\nlocal all all trust\nlocal "
         "replication all trust\n";
  server.sql("SELECT pg_reload_conf()");
  {
    Watch upstream(server, "user=plain", GetParam());
    const std::string told = upstream.problem_with("REPLICATION");
    EXPECT_NE(told.find("ALTER ROLE name REPLICATION"), std::string::npos) << told;
  }
  {
    Watch upstream(server, "user=locked password=the_wrong_one", GetParam());
    const std::string told = upstream.problem_with("password authentication failed");
    EXPECT_NE(told.find("put the right password into conninfo"), std::string::npos) << told;
    EXPECT_EQ(told.find("the_wrong_one"), std::string::npos) << told;
  }
  Watch first(server, "", GetParam());
  ASSERT_TRUE(first.connects());
  Watch second(server, "", GetParam());
  const std::string told = second.problem_with("max_wal_senders");
  EXPECT_NE(told.find("number of requested standby connections exceeds max_wal_senders"), std::string::npos) << told;
  EXPECT_NE(told.find("raise max_wal_senders and restart PostgreSQL"), std::string::npos) << told;
}

TEST_P(Upstream, NamesAServerThatIsNotThere) {
  Watch upstream(server, "", GetParam());
  const std::string told = upstream.problem_with("No such file");
  EXPECT_NE(told.find("is PostgreSQL running there? check host and port in conninfo"), std::string::npos) << told;
  EXPECT_NE(told.find("port=7401"), std::string::npos) << told;
}

TEST_P(Upstream, RefusesAnotherClusterAndAStandbyAfterAReconnect) {
  start();
  Watch upstream(server, "", GetParam());
  ASSERT_TRUE(upstream.connects());
  ASSERT_TRUE(stops(upstream));
  {
    Server other(place / "other", 7401);
    other.initialise();
    other.start();
    const std::string told = upstream.problem_with("system identifier");
    EXPECT_NE(told.find("this PostgreSQL has system identifier " +
                        other.sql("SELECT system_identifier FROM pg_control_system()")),
              std::string::npos)
        << told;
    EXPECT_NE(told.find("point conninfo at the right server"), std::string::npos) << told;
    other.stop();
  }
  std::ofstream(server.directory() / "standby.signal").flush();
  server.start();
  const std::string told = upstream.problem_with("in recovery");
  EXPECT_NE(told.find("this server is in recovery: it is a standby, not a primary"), std::string::npos) << told;
  upstream.idle(500ms);
  EXPECT_EQ(upstream.connected.size(), 1u);
  EXPECT_EQ(server.sql("SELECT count(*) FROM pg_stat_replication"), "0");
}

}  // namespace
}  // namespace slipstream::postgres
