#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tests/postgres/feed_place.h"
#include "tests/postgres/server.h"
#include "wal/segment.h"

// The feed against PostgreSQL's own programs: a real standby, pg_receivewal, psql and pg_basebackup.
namespace slipstream::postgres {
namespace {

using namespace feed_test;
using namespace real;
namespace fs = std::filesystem;

constexpr std::uint64_t kSegment = 1 << 20;
constexpr std::uint16_t kFeedPort = 7301;

// A primary that was stopped long ago, the log it wrote in the meantime, and a standby's base from before.
class FeedAndPostgres : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!available()) return;
    world = new World;
    give_to_database_user(world->place.path());
    Server primary(world->place / "primary", 7310);
    primary.initialise();
    primary.start();
    primary.sql("CREATE TABLE public.t (i int, filler text)");
    world->system = std::stoull(primary.sql("SELECT system_identifier FROM pg_control_system()"));
    primary.stop();
    primary.copy_to(world->place / "base");
    primary.start();
    world->begin = wal::SegmentLayout(ByteCount{kSegment}).segment_begin(primary.flushed());
    primary.sql("INSERT INTO public.t SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i");
    world->first = primary.flushed();
    primary.sql("INSERT INTO public.t SELECT i, repeat('y', 500) FROM generate_series(5001, 10000) i");
    primary.sql("SELECT pg_switch_wal()");
    primary.sql("INSERT INTO public.t VALUES (10001, 'after the switch')");
    world->second = primary.flushed();
    primary.stop();
    fs::create_directory(world->place / "wal");
    for (const auto& each : fs::directory_iterator(world->place / "primary" / "pg_wal"))
      if (each.is_regular_file()) fs::copy_file(each, world->place / "wal" / each.path().filename().string());
  }
  static void TearDownTestSuite() {
    delete world;
    world = nullptr;
  }
  void SetUp() override {
    if (!world) GTEST_SKIP() << kMissing;
    options.socket_directory = world->place.path();
    options.port = kFeedPort;
    options.allow_users = {database_user()};
    options.wal_directory = world->place / "wal";
    options.segment_size = ByteCount{kSegment};
    options.system = SystemId{world->system};
    options.timeline = TimelineId{1};
    options.log_begin = world->begin;
    options.server_version_num = 150000;
  }
  void TearDown() override {
    server.reset();
    std::error_code ignored;
    for (const char* name : {"standby", "received", "fork"})
      fs::remove_all(world ? world->place / name : fs::path("/nonexistent"), ignored);
  }
  void start_feed(Lsn end) {
    auto started = FeedServer::start(options);
    ASSERT_TRUE(started.has_value()) << started.error().message();
    server = std::move(*started);
    release(end);
  }
  void release(Lsn end) { server->release({end, std::max(end, world->second), options.timeline}); }
  std::vector<std::string> psql(const std::string& more, const std::string& command) const {
    return {
        program("psql"),
        "-X",
        "-A",
        "-t",
        fmt::format("host={} port={} user=postgres dbname=postgres {}", world->place.path().string(), kFeedPort, more),
        "-c",
        command};
  }
  // A standby from the base, pointed at the feed.
  std::unique_ptr<Server> make_standby(const std::map<std::string, std::string>& settings = {}) const {
    must({"/bin/cp", "-a", world->place / "base", world->place / "standby"});
    auto standby = std::make_unique<Server>(world->place / "standby", 7311);
    standby->configure({{"primary_conninfo", fmt::format("host={} port={} user=postgres application_name=standby_b",
                                                         world->place.path().string(), kFeedPort)},
                        {"hot_standby", "on"},
                        {"wal_receiver_create_temp_slot", "on"},
                        {"wal_receiver_status_interval", "1s"}});
    standby->configure(settings);
    std::ofstream(world->place / "standby" / "standby.signal").flush();
    return standby;
  }
  std::vector<std::string> receive_wal(const std::string& more) const {
    return {program("pg_receivewal"),
            "-h",
            world->place.path(),
            "-p",
            std::to_string(kFeedPort),
            "-U",
            "postgres",
            "-w",
            "-D",
            world->place / "received",
            "--no-loop",
            more};
  }
  // pg_receivewal ends once it is past its --endpos.
  static std::string before(Lsn end) { return to_string(Lsn{end.value - 1}); }
  // Everything that was received against the replica's own segments: equal up to `end`, nothing beyond.
  void expect_equal(Lsn begin, Lsn end) const {
    const wal::SegmentLayout layout(ByteCount{kSegment});
    for (Lsn at = begin; at < end; at = layout.segment_end(at)) {
      const std::string name = layout.file_name(TimelineId{1}, layout.number_of(at));
      const bool whole = layout.segment_end(at) <= end;
      const std::string received = content_of(world->place / "received" / (whole ? name : name + ".partial")),
                        held = content_of(options.wal_directory / name);
      ASSERT_EQ(received.size(), kSegment) << name;
      const std::size_t counts = whole ? kSegment : (end - at).value;
      EXPECT_TRUE(received.substr(0, counts) == held.substr(0, counts)) << name;
      EXPECT_EQ(received.find_first_not_of('\0', counts), std::string::npos) << name << " has bytes beyond the release";
    }
  }

  struct World {
    Place place;
    std::uint64_t system = 0;
    Lsn begin, first, second;
  };
  static World* world;
  FeedOptions options;
  std::unique_ptr<FeedServer> server;
};

FeedAndPostgres::World* FeedAndPostgres::world = nullptr;

TEST_F(FeedAndPostgres, PgReceivewalGetsTheLogByteForByte) {
  start_feed(world->second);
  must({"/bin/mkdir", world->place / "received"});
  ASSERT_GT((world->second - world->begin).value, 4 * kSegment);
  // Every name is a slot whose beginning is the log's.
  Outcome outcome = run([&] {
    auto arguments = receive_wal("--slot=any");
    arguments.push_back("--endpos=" + before(world->second));
    return arguments;
  }());
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  expect_equal(world->begin, world->second);
}

TEST_F(FeedAndPostgres, PgReceivewalFollowsReleasesAndGetsNothingBeyond) {
  start_feed(world->first);
  must({"/bin/mkdir", world->place / "received"});
  Outcome outcome;
  std::thread receiving([&] {
    auto arguments = receive_wal("--slot=any");
    arguments.push_back("--synchronous");
    arguments.push_back("--endpos=" + before(world->second));
    outcome = run(arguments);
  });
  EXPECT_TRUE(eventually([&] {
    const FeedView view = server->view();
    return !view.readers.empty() && view.readers[0].status && view.readers[0].status->flush == world->first;
  }));
  expect_equal(world->begin, world->first);
  node::StandbyEvent event;
  EXPECT_FALSE(server->next_event(event)) << "it is no standby";
  release(world->second);
  receiving.join();
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  expect_equal(world->begin, world->second);
}

TEST_F(FeedAndPostgres, AnUnmodifiedStandbyFollowsTheReleases) {
  start_feed(world->first);
  auto standby = make_standby({{"hot_standby_feedback", "on"}});
  Told told(*server);
  standby->start();
  ASSERT_TRUE(told.applied(world->first)) << standby->log();
  EXPECT_EQ(told.last.apply, world->first);
  EXPECT_EQ(standby->sql("SELECT pg_last_wal_replay_lsn() || '|' || count(*) FROM public.t"),
            to_string(world->first) + "|5000");
  EXPECT_EQ(standby->sql("SELECT status || '|' || latest_end_lsn FROM pg_stat_wal_receiver"),
            "streaming|" + to_string(world->second))
      << "lag tools see the primary's end";
  EXPECT_TRUE(eventually([&] { return server->view().feedback.has_value(); }));
  release(world->second);
  ASSERT_TRUE(told.applied(world->second)) << standby->log();
  EXPECT_EQ(standby->sql("SELECT count(*) || '|' || max(i) FROM public.t"), "10001|10001");
  EXPECT_EQ(told.words.size(), 1u);
  EXPECT_TRUE(told.words[0].starts_with("connected standby_b ")) << told.words[0];
  EXPECT_GE(server->needed_from(), world->second);
  standby->stop();
  EXPECT_TRUE(told.said(2));
  EXPECT_EQ(told.words.back(), "lost");
}

TEST_F(FeedAndPostgres, AStandbyComesBackAfterTheFeedsRestart) {
  start_feed(world->first);
  auto standby = make_standby();
  standby->start();
  ASSERT_TRUE(Told(*server).applied(world->first)) << standby->log();
  server.reset();
  start_feed(world->first);
  Told told(*server);
  ASSERT_TRUE(told.said(1)) << standby->log();
  release(world->second);
  EXPECT_TRUE(told.applied(world->second)) << standby->log();
}

TEST_F(FeedAndPostgres, AStandbyFindsPostgresqlsOwnWordsWhenItsWalIsGone) {
  options.log_begin = wal::SegmentLayout(ByteCount{kSegment}).segment_begin(world->second);
  start_feed(world->second);
  auto standby = make_standby();
  standby->start();
  EXPECT_TRUE(eventually([&] {
    return standby->log().find("ERROR:  requested WAL segment 00000001") != std::string::npos;
  })) << standby->log();
  EXPECT_NE(standby->log().find(" has already been removed"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return server->view().refused_start.starts_with("standby_b asked for "); }));
  node::StandbyEvent event;
  EXPECT_FALSE(server->next_event(event)) << "it cannot start from this log, so it is no standby of it";
}

TEST_F(FeedAndPostgres, AStandbyCrossesToANewTimeline) {
  // Another server forks off the primary's end, and its log is what the feed has.
  must({"/bin/cp", "-a", world->place / "primary", world->place / "fork"});
  Lsn end;
  {
    Server fork(world->place / "fork", 7312);
    std::ofstream(world->place / "fork" / "standby.signal").flush();
    fork.start();
    fork.sql("SELECT pg_promote()");
    fork.sql("INSERT INTO public.t VALUES (20001, 'on timeline 2')");
    end = fork.flushed();
    fork.stop();
  }
  options.wal_directory = world->place / "fork" / "pg_wal";
  options.timeline = TimelineId{2};
  start_feed(end);
  auto standby = make_standby();
  Told told(*server);
  standby->start();
  EXPECT_TRUE(told.applied(end)) << standby->log();
  EXPECT_EQ(standby->sql("SELECT max(i) FROM public.t"), "20001");
}

TEST_F(FeedAndPostgres, PsqlSpeaksReplicationCommands) {
  start_feed(world->second);
  const Outcome identified = run(psql("replication=true", "IDENTIFY_SYSTEM"));
  EXPECT_EQ(identified.output, fmt::format("{}|1|{}|\n", world->system, to_string(world->second)));
  EXPECT_EQ(run(psql("replication=true", "SHOW wal_segment_size")).output, "1MB\n");
  EXPECT_NE(
      run(psql("replication=true", "SELECT 1")).output.find("ERROR:  cannot execute SQL commands on a replica's feed"),
      std::string::npos);
  EXPECT_NE(run(psql("", "SELECT 1")).output.find("FATAL:  this socket is the feed of a slipstream replica"),
            std::string::npos);
}

TEST_F(FeedAndPostgres, PgBasebackupIsSentToThePrimary) {
  start_feed(world->second);
  const Outcome outcome = run({program("pg_basebackup"), "-h", world->place.path(), "-p", std::to_string(kFeedPort),
                               "-U", "postgres", "-X", "none", "-D", world->place / "received"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.output.find("a replica's feed cannot make base backups"), std::string::npos) << outcome.output;
}

TEST_F(FeedAndPostgres, AnotherOperatingSystemUserIsTurnedAway) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
  start_feed(world->second);
  const Outcome outcome = run(psql("replication=true", "IDENTIFY_SYSTEM"), "nobody");
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.output.find("FATAL:  operating-system user \"nobody\" may not read this replica's log"),
            std::string::npos)
      << outcome.output;
}

}  // namespace
}  // namespace slipstream::postgres
