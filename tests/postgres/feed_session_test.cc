#include <gtest/gtest.h>

#include <random>

#include "tests/postgres/feed_talk.h"

// What a feed says to whoever connects, and to malformed messages; feed_session_stream_test.cc: its streams.
namespace slipstream::postgres {
namespace {

TEST_F(Talk, GreetsLikeAPrimaryOfTheSameVersion) {
  send_startup(196608, "user\0me\0replication\0true\0\0"sv);
  EXPECT_EQ(tags(), "RSSSSSSSSSSSSSKZ");
  std::map<std::string, std::string> told;
  for (const Message& each : received)
    if (each.tag == 'S') told[each.body.c_str()] = each.body.c_str() + each.body.find('\0') + 1;
  EXPECT_EQ(told["server_version"], "15.20");
  EXPECT_EQ(told["in_hot_standby"], "off");
  EXPECT_EQ(told["default_transaction_read_only"], "off");
  EXPECT_EQ(told["integer_datetimes"], "on");
}

TEST_F(Talk, DeclinesEncryptionOnceForEachKind) {
  send(big(8, 4) + big(80877104, 4));
  send(big(8, 4) + big(80877103, 4));
  drain();
  EXPECT_EQ(raw, "NN");
  raw.clear();
  send_startup(196608, "user\0me\0replication\0true\0\0"sv);
  EXPECT_EQ(tags().back(), 'Z');
}

TEST_F(Talk, NegotiatesDownFromANewerMinorVersion) {
  send_startup(196610,
               "user\0me\0replication\0true\0_pq_.x\0"
               "1\0\0"sv);
  EXPECT_EQ(tags().substr(0, 2), "vR");
  EXPECT_EQ(received[0].body, big(196608, 4) + big(1, 4) + "_pq_.x\0"s);
}

TEST_F(Talk, SaysWhatThisSocketIsToAnOrdinaryClient) {
  send_startup(196608, "user\0me\0database\0postgres\0\0"sv);
  EXPECT_EQ(error(),
            "FATAL 0A000 this socket is the feed of a slipstream replica: it speaks PostgreSQL's physical replication "
            "protocol only");
  EXPECT_TRUE(session->ended());
}

TEST_F(Talk, RefusesLogicalConnectionsAndNamelessUsers) {
  send_startup(196608, "user\0me\0replication\0database\0\0"sv);
  EXPECT_EQ(error(), "FATAL 0A000 a replica's feed streams physical WAL only");
  open();
  send_startup(196608, "replication\0true\0\0"sv);
  EXPECT_EQ(error(), "FATAL 28000 no PostgreSQL user name specified in startup packet");
}

TEST_F(Talk, TellsARefusedPeerWhyOnceItHasIntroducedItself) {
  open(FeedError{"28000", "not you"});
  EXPECT_EQ(tags(), "");
  send_startup(196608, "user\0me\0replication\0true\0\0"sv);
  EXPECT_EQ(error(), "FATAL 28000 not you");
  EXPECT_TRUE(session->ended());
}

TEST_F(Talk, EndsACancelRequestWithoutAWord) {
  send(big(16, 4) + big(80877102, 4) + "12345678");
  EXPECT_EQ(tags(), "");
  EXPECT_TRUE(session->ended());
}

TEST_F(Talk, LosesAPeerThatNeverIntroducesItself) {
  now = now + seconds(59);
  session->advance(release, now);
  EXPECT_FALSE(session->ended());
  EXPECT_EQ(session->deadline(), now + seconds(1));
  now = now + seconds(1);
  session->advance(release, now);
  EXPECT_TRUE(session->abandoned());
}

TEST_F(Talk, IdentifiesTheSystemByWhatWasReleased) {
  start_up();
  release.fed_end = Lsn{0x123456};
  query("IDENTIFY_SYSTEM");
  EXPECT_EQ(tags(), "TDCZ");
  EXPECT_EQ(row(), (std::vector<std::string>{"7777", "1", "0/123456", "NULL"}));
}

TEST_F(Talk, AnswersSettingsHistoriesAndSlots) {
  start_up();
  const auto answered = [&](std::string_view text) {
    received.clear();
    query(text);
    return row();
  };
  using Row = std::vector<std::string>;
  EXPECT_EQ(answered("SHOW wal_segment_size"), Row{"1MB"});
  EXPECT_EQ(answered("SHOW data_directory_mode"), Row{"0700"});
  EXPECT_EQ(answered("TIMELINE_HISTORY 2"), (Row{"00000002.history", "1\t0/300100\twhy\n"}));
  EXPECT_EQ(answered("CREATE_REPLICATION_SLOT \"s\" TEMPORARY PHYSICAL (RESERVE_WAL)"),
            (Row{"s", "0/0", "NULL", "NULL"}));
  EXPECT_EQ(answered("READ_REPLICATION_SLOT s"), (Row{"physical", "0/100000", "1"}));
  EXPECT_EQ(answered("SELECT pg_catalog.set_config('search_path', '', false)"), Row{""});
  received.clear();
  query("DROP_REPLICATION_SLOT s");
  EXPECT_EQ(tags(), "CZ");
  received.clear();
  query("");
  EXPECT_EQ(tags(), "IZ");
}

TEST_F(Talk, RefusesByNameWhatAFeedCannotDoAndGoesOn) {
  start_up();
  const std::pair<const char*, const char*> transcript[] = {
      {"BASE_BACKUP", "ERROR 0A000 a replica's feed cannot make base backups: it has the log, not the data"},
      {"SHOW shared_buffers", "ERROR 42704 unrecognized configuration parameter \"shared_buffers\""},
      {"TIMELINE_HISTORY 3", "ERROR 58P01 could not open file \"pg_wal/00000003.history\": No such file or directory"},
      {"START_REPLICATION 0/100000 TIMELINE 3", "ERROR XX000 requested timeline 3 is not in this server's history"},
      {"SELECT 1", "ERROR 0A000 cannot execute SQL commands on a replica's feed"},
  };
  for (const auto& [text, expected] : transcript) {
    received.clear();
    query(text);
    EXPECT_EQ(error(), expected);
    EXPECT_EQ(tags().back(), 'Z');
  }
}

TEST_F(Talk, SkipsToTheSyncAfterTheExtendedProtocol) {
  start_up();
  message('P', "\0SELECT 1\0\0\0"sv);
  message('B', "x");
  message('E', "x");
  EXPECT_EQ(tags(), "E");
  message('S', "");
  EXPECT_EQ(tags(), "EZ");
}

TEST_F(Talk, EndsOnMalformedMessagesWithAWordAboutThem) {
  const auto said = [&](bool streaming, std::string_view bytes) {
    open();
    start_up();
    if (streaming) query("START_REPLICATION 0/100000 TIMELINE 1");
    send(bytes);
    const std::string text = error();
    EXPECT_TRUE(session->ended()) << text;
    return text;
  };
  EXPECT_EQ(said(false, "Q\0\0\0\3"sv), "FATAL 08P01 invalid message length 3 of a message of type 0x51");
  EXPECT_EQ(said(false, "Q\x7f\xff\xff\xff"sv),
            "FATAL 08P01 invalid message length 2147483647 of a message of type 0x51");
  EXPECT_EQ(said(false, "Q\0\0\0\4"sv), "FATAL 08P01 invalid string in message");
  EXPECT_EQ(said(false, "?\0\0\0\4"sv), "FATAL 08P01 invalid frontend message type 0x3f");
  EXPECT_EQ(said(true, "Q\0\0\0\6x\0"sv), "FATAL 08P01 invalid standby message type 0x51");
  EXPECT_EQ(said(true, "d\0\0\0\4"sv),
            "FATAL 08P01 a standby's message of 0 bytes and type 0x00 is neither a reply nor hot standby feedback");
  EXPECT_EQ(said(true, "d\0\0\0\6r0"sv),
            "FATAL 08P01 a standby's message of 2 bytes and type 0x72 is neither a reply nor hot standby feedback");
  EXPECT_EQ(said(true, "\xff\xff\xff\xff\xff"sv),
            "FATAL 08P01 invalid message length 4294967295 of a message of type 0xff");
  open();
  send("\x16\x03\x01\x02"sv);
  EXPECT_EQ(error(), "FATAL 08P01 invalid length of startup packet");
}

TEST_F(Talk, UnderstandsMessagesThatArriveByteByByte) {
  const std::string rest = "user\0me\0replication\0true\0\0"s, text = "IDENTIFY_SYSTEM\0"s;
  const std::string all = big(rest.size() + 8, 4) + big(196608, 4) + rest + "Q" + big(text.size() + 4, 4) + text;
  for (const char c : all) send(std::string_view(&c, 1));
  EXPECT_EQ(row()[0], "7777");
}

TEST_F(Talk, HoldsLittleForAClientThatDoesNotTakeItsAnswers) {
  start_up();
  release.fed_end = Lsn{0x10000000};
  for (int i = 0; i < 10'000 && session->wants_input(); ++i) query("SHOW wal_segment_size");
  EXPECT_FALSE(session->wants_input());
  EXPECT_LT(session->output().size(), 400u * 1024);
  open();
  start_up();
  query("START_REPLICATION 0/100000 TIMELINE 1");
  for (int i = 0; i < 100; ++i) session->advance(release, now);
  EXPECT_LT(session->output().size(), 400u * 1024);
}

TEST_F(Talk, SurvivesAnyBytes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    open();
    if (round % 2 == 0) start_up();
    if (round % 4 == 0) query("START_REPLICATION 0/100000 TIMELINE 1");
    release.fed_end = Lsn{0x100000 + random() % 4096};
    for (int i = 0; i < 8; ++i) {
      std::string bytes(random() % 64, '\0');
      for (char& c : bytes) c = static_cast<char>(random() % 3 == 0 ? 0 : random());
      if (random() % 2 == 0)
        message("QdcXS?f"[random() % 7], bytes);
      else
        send(bytes);
    }
    drain();
    EXPECT_TRUE(session->output().empty());
  }
}

}  // namespace
}  // namespace slipstream::postgres
