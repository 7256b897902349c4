#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/postgres/feed_talk.h"

// A feed's streams: what is sent, when, and how they end.
namespace slipstream::postgres {
namespace {

TEST_F(Talk, StreamsUpToTheReleaseAndNotAByteMore) {
  start_up();
  release.fed_end = Lsn{0x112348};
  query("START_REPLICATION 0/100000 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x100000}), Lsn{0x112348});
  received.clear();
  now = now + milliseconds(1);
  drain();
  EXPECT_EQ(tags(), "");
  release.fed_end = Lsn{0x112350};
  EXPECT_EQ(wal_from(Lsn{0x112348}), Lsn{0x112350});
}

TEST_F(Talk, CutsMessagesAtPageBoundariesAndSegmentEnds) {
  start_up();
  release.fed_end = Lsn{0x2a3458};
  query("START_REPLICATION 0/101238 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x101238}), release.fed_end);
  EXPECT_TRUE(std::ranges::count(ends, Lsn{0x200000})) << "no message ends with the segment";
  for (const Lsn end : ends) EXPECT_TRUE(end.value % wal::kPageBytes == 0 || end == release.fed_end) << to_string(end);
}

TEST_F(Talk, TellsThePrimarysTrueEndWithTheWal) {
  start_up();
  release.fed_end = Lsn{0x100100}, release.primary_flushed_end = Lsn{0x900000};
  query("START_REPLICATION 0/100000 TIMELINE 1");
  drain();
  for (const Message& each : received)
    if (each.tag == 'd' && each.body[0] == 'w') {
      EXPECT_EQ(decode_xlog_data(std::as_bytes(std::span(each.body)))->wal_end, Lsn{0x900000});
    }
}

TEST_F(Talk, WaitsWithAStartThatLiesAheadOfTheRelease) {
  start_up();
  release.fed_end = Lsn{0x150000};
  query("START_REPLICATION 0/200000 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x200000}), Lsn{0x200000});
  EXPECT_EQ(received[0].tag, 'W');
  release.fed_end = Lsn{0x200100};
  EXPECT_EQ(wal_from(Lsn{0x200000}), Lsn{0x200100});
}

TEST_F(Talk, RefusesAStartBelowTheLogInPostgresqlsWords) {
  start_up();
  release.fed_end = Lsn{0x500000};
  query("START_REPLICATION 0/0 TIMELINE 1");
  EXPECT_EQ(tags(), "WEZ");
  EXPECT_EQ(error(), "ERROR 58P01 requested WAL segment 000000010000000000000000 has already been removed");
  EXPECT_FALSE(session->streaming());
  EXPECT_NE(session->refused_start().find("0/100000"), std::string::npos);
}

TEST_F(Talk, StopsAtASegmentThatIsGoneOrCannotBeRead) {
  start_up();
  release.fed_end = Lsn{0x300000};
  log.missing = 2;
  query("START_REPLICATION 0/100000 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x100000}), Lsn{0x200000});
  EXPECT_EQ(error(), "ERROR 58P01 requested WAL segment 000000010000000000000002 has already been removed");
  log.missing = UINT64_MAX, log.broken = true;
  received.clear();
  query("START_REPLICATION 0/100000 TIMELINE 1");
  EXPECT_EQ(error(), "ERROR 58030 could not read from WAL segment 000000010000000000000001, offset 0");
}

TEST_F(Talk, AsksTheStandbySoonAndThenLessOftenWhileItsReplayLags) {
  start_up();
  release.fed_end = Lsn{0x101000};
  query("START_REPLICATION 0/100000 TIMELINE 1");
  EXPECT_EQ(asks(), 1u) << "at the start";
  reply(Lsn{0x101000}, Lsn{0x101000}, Lsn{0x100800});
  std::vector<std::int64_t> asked;
  const Instant began = now;
  while (asked.size() < 5) {
    ASSERT_LT(session->deadline(), now + seconds(1));
    now = session->deadline();
    if (asks() > 0) asked.push_back((now - began).ns / 1'000'000);
  }
  EXPECT_EQ(asked, (std::vector<std::int64_t>{10, 30, 80, 180, 280}));
  reply(Lsn{0x101000}, Lsn{0x101000}, Lsn{0x101000});
  EXPECT_EQ(session->deadline(), now + seconds(5)) << "nothing more to ask";
}

TEST_F(Talk, KeepsAQuietStreamAliveEveryFiveSeconds) {
  start_up("pg_receivewal");
  query("START_REPLICATION 0/100000 TIMELINE 1");
  drain();
  received.clear();
  now = now + seconds(5);
  EXPECT_EQ(tags(), "d");
  EXPECT_EQ(received[0].body[0], 'k');
  EXPECT_EQ(received[0].body.back(), 0) << "no answer is needed yet";
}

TEST_F(Talk, LosesAReaderThatDoesNotAnswerForTheWholeTimeout) {
  start_up("pg_receivewal");
  query("START_REPLICATION 0/100000 TIMELINE 1");
  std::size_t asked = 0;
  const Instant began = now;
  while (!session->ended()) {
    now = session->deadline();
    ASSERT_LE(now, began + seconds(60));
    asked += asks();
  }
  EXPECT_EQ(now, began + seconds(60));
  EXPECT_GE(asked, 5u);
}

TEST_F(Talk, AnswersAReplyThatAsks) {
  start_up();
  query("START_REPLICATION 0/100000 TIMELINE 1");
  drain();
  received.clear();
  reply(Lsn{}, Lsn{}, Lsn{}, true);
  EXPECT_EQ(tags(), "d");
}

TEST_F(Talk, KeepsTheStandbysRepliesAndFeedback) {
  start_up();
  query("START_REPLICATION 0/100000 TIMELINE 1");
  EXPECT_EQ(session->needed_from(), Lsn{0x100000});
  reply(Lsn{0x100300}, Lsn{0x100200}, Lsn{0x100100});
  message('d', "h" + big(1, 8) + big(735, 4) + big(0, 4) + big(700, 4) + big(0, 4));
  ASSERT_TRUE(session->status().has_value());
  EXPECT_EQ(session->status()->write, Lsn{0x100300});
  EXPECT_EQ(session->needed_from(), Lsn{0x100100});
  ASSERT_TRUE(session->feedback().has_value());
  EXPECT_EQ(session->feedback()->xmin, 735u);
}

TEST_F(Talk, TakesToolsForReadersAndTheNamedOneForTheStandby) {
  for (const auto& [named, name, expected] : {std::tuple{"", "walreceiver", true},
                                              {"", "pg_receivewal", false},
                                              {"", "pg_basebackup", false},
                                              {"b", "b", true},
                                              {"b", "walreceiver", false}}) {
    context.standby_name = named;
    open();
    start_up(name);
    query("START_REPLICATION 0/100000 TIMELINE 1");
    EXPECT_EQ(session->may_be_standby(), expected) << named << " " << name;
  }
}

TEST_F(Talk, EndsAStreamTheWayAWalsenderDoes) {
  start_up("pg_receivewal");
  query("START_REPLICATION 0/100000 TIMELINE 1");
  message('c', "");
  EXPECT_EQ(tags(), "WcCCZ");
  received.clear();
  query("IDENTIFY_SYSTEM");
  EXPECT_EQ(tags(), "TDCZ");
}

TEST_F(Talk, EndsAnOldTimelineAtItsForkAndNamesTheNext) {
  release = {Lsn{0x400000}, Lsn{0x400000}, TimelineId{2}};
  start_up();
  query("START_REPLICATION 0/200000 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x200000}), Lsn{0x300100});
  EXPECT_EQ(tags().back(), 'c');
  received.clear();
  message('c', "");
  EXPECT_EQ(tags(), "TDCCZ");
  EXPECT_EQ(row(), (std::vector<std::string>{"2", "0/300100"}));
  received.clear();
  query("START_REPLICATION 0/300000 TIMELINE 2");
  EXPECT_EQ(wal_from(Lsn{0x300000}), Lsn{0x400000});
}

TEST_F(Talk, FollowsATimelineThatEndsWhileItStreams) {
  release = {Lsn{0x280000}, Lsn{0x280000}, TimelineId{1}};
  start_up();
  query("START_REPLICATION 0/200000 TIMELINE 1");
  EXPECT_EQ(wal_from(Lsn{0x200000}), Lsn{0x280000});
  received.clear();
  release = {Lsn{0x400000}, Lsn{0x400000}, TimelineId{2}};
  EXPECT_EQ(wal_from(Lsn{0x280000}), Lsn{0x300100});
  EXPECT_EQ(tags().back(), 'c');
}

TEST_F(Talk, AnswersAStartAtTheForkWithTheNextTimelineAtOnce) {
  release = {Lsn{0x400000}, Lsn{0x400000}, TimelineId{2}};
  start_up();
  query("START_REPLICATION 0/300100 TIMELINE 1");
  EXPECT_EQ(tags(), "TDCCZ");
  received.clear();
  query("START_REPLICATION 0/300108 TIMELINE 1");
  EXPECT_EQ(error(), "ERROR XX000 requested starting point 0/300108 on timeline 1 is not in this server's history");
}

TEST_F(Talk, TakesLeaveAsAStoppingServerDoes) {
  start_up();
  query("START_REPLICATION 0/100000 TIMELINE 1");
  drain();
  received.clear();
  session->say_goodbye();
  drain();
  EXPECT_EQ(tags(), "C");
  EXPECT_EQ(received[0].body, "COPY 0\0"s);
  open();
  start_up();
  session->say_goodbye();
  EXPECT_EQ(error(), "FATAL 57P01 terminating connection due to administrator command");
}

}  // namespace
}  // namespace slipstream::postgres
