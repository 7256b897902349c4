#include "postgres/feed_session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "base/bytes.h"

namespace slipstream::postgres {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::uint64_t kSegment = 1 << 20;

// A log whose byte at position p is a function of p; the segments in `missing` are gone.
class MadeUpLog : public FeedSource {
 public:
  Lsn log_begin() const override { return begin; }
  const wal::SegmentLayout& layout() const override { return layout_; }
  const wal::TimelineHistory* history(TimelineId timeline) override {
    if (timeline.value == 1) return &first_;
    if (timeline.value != 2) return nullptr;
    return &second_;
  }
  std::optional<std::string> history_file(TimelineId timeline) override {
    return timeline.value == 2 ? std::optional<std::string>("1\t0/300100\twhy\n") : std::nullopt;
  }
  FeedRead read(const wal::TimelineHistory&, Lsn at, std::span<std::byte> out) override {
    EXPECT_EQ(layout_.number_of(at), layout_.number_of(Lsn{at.value + out.size() - 1})) << "a read crosses segments";
    if (missing == layout_.number_of(at)) return FeedRead::kMissing;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = byte_at(at.value + i);
    return broken ? FeedRead::kFailed : FeedRead::kOk;
  }
  static std::byte byte_at(std::uint64_t at) { return static_cast<std::byte>((at * 2654435761u) >> 13); }

  Lsn begin{0x100000};
  std::uint64_t missing = UINT64_MAX;
  bool broken = false;

 private:
  wal::SegmentLayout layout_{ByteCount{kSegment}};
  wal::TimelineHistory first_{TimelineId{1}};
  wal::TimelineHistory second_ = *wal::TimelineHistory::parse(TimelineId{2}, "1\t0/300100\twhy\n");
};

// One client against one session, time moved by hand.
class Talk : public testing::Test {
 protected:
  Talk() {
    context.system = SystemId{7777};
    context.server_version_num = 150020;
    context.receive_timeout = seconds(60);
    context.source = &log;
    context.wall_us = [] { return 42; };
    release.timeline = TimelineId{1};
    open();
  }
  void open(std::optional<FeedError> refusal = {}) {
    session.emplace(context, 1, std::move(refusal), now);
    received.clear();
  }
  void send(std::string_view bytes) {
    session->on_bytes(std::as_bytes(std::span(bytes)), release, now), session->advance(release, now);
  }
  static std::string big(std::uint64_t value, int bytes) {
    std::string out;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
    return out;
  }
  void message(char tag, std::string_view body) { send(tag + big(body.size() + 4, 4) + std::string(body)); }
  void query(std::string_view text) { message('Q', std::string(text) + '\0'); }
  void start_up(std::string_view name = "walreceiver") {
    send_startup(196608, "user\0me\0replication\0true\0application_name\0"sv, std::string(name) + "\0\0"s);
    drain();
    received.clear();
  }
  void send_startup(std::uint32_t code, std::string_view rest, std::string_view more = "") {
    send(big(rest.size() + more.size() + 8, 4) + big(code, 4) + std::string(rest) + std::string(more));
  }
  void reply(Lsn write, Lsn flush, Lsn apply, bool ask = false) {
    message('d',
            "r" + big(write.value, 8) + big(flush.value, 8) + big(apply.value, 8) + big(0, 8) + big(ask ? 1 : 0, 1));
  }

  struct Message {
    char tag;
    std::string body;
  };
  // Takes all there is to take.
  void drain() {
    for (int i = 0; i < 10'000; ++i) {
      session->advance(release, now);
      const auto out = session->output();
      if (out.empty()) break;
      raw.append(reinterpret_cast<const char*>(out.data()), out.size());
      session->on_written(out.size());
    }
    while (raw.size() >= 5) {
      const std::size_t length = ByteReader(std::as_bytes(std::span(raw)).subspan(1)).be<std::uint32_t>();
      if (raw.size() < 1 + length) break;
      received.push_back({raw[0], raw.substr(5, length - 4)});
      raw.erase(0, 1 + length);
    }
  }
  std::string tags() {
    drain();
    std::string out;
    for (const Message& each : received) out += each.tag;
    return out;
  }
  // "code message" of the only error.
  std::string error() {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'E') continue;
      std::map<char, std::string> fields;
      for (std::size_t at = 0; at < each.body.size() && each.body[at] != '\0'; at += 2 + fields[each.body[at]].size())
        fields[each.body[at]] = each.body.substr(at + 1).c_str();
      return fields['S'] + " " + fields['C'] + " " + fields['M'];
    }
    return "";
  }
  std::vector<std::string> row() {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'D') continue;
      ByteReader in(std::as_bytes(std::span(each.body)));
      std::vector<std::string> out(in.be<std::uint16_t>());
      for (std::string& value : out) {
        const auto length = in.be<std::uint32_t>();
        value = length == 0xffffffff ? "NULL" : std::string(in.text(length));
      }
      return out;
    }
    return {};
  }
  // The WAL and the keepalives received, checked byte for byte.
  Lsn wal_from(Lsn from) {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'd' || each.body[0] != 'w') continue;
      const auto data = decode_xlog_data(std::as_bytes(std::span(each.body)));
      if (!data) {
        ADD_FAILURE() << "not WAL data";
        return from;
      }
      EXPECT_EQ(data->start, from);
      EXPECT_LE(data->payload.size(), 128u * 1024);
      for (std::size_t i = 0; i < data->payload.size(); ++i)
        if (data->payload[i] != MadeUpLog::byte_at(from.value + i)) {
          ADD_FAILURE() << "another byte at " << from.value + i;
          return from;
        }
      from = from + ByteCount{data->payload.size()};
      EXPECT_GE(data->wal_end, from);
      ends.push_back(from);
    }
    return from;
  }
  std::size_t asks() {
    drain();
    std::size_t count = 0;
    for (const Message& each : received)
      if (each.tag == 'd' && each.body[0] == 'k' && each.body.back() == 1) ++count;
    received.clear();
    return count;
  }

  MadeUpLog log;
  FeedContext context;
  node::Release release{};
  Instant now = Instant{1'000'000'000'000};
  std::optional<FeedSession> session;
  std::string raw;
  std::vector<Message> received;
  std::vector<Lsn> ends;
};

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
