#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "tests/postgres/feed_place.h"
#include "wal/segment.h"

// The server with its sockets, against clients written by hand. What PostgreSQL's own clients say is in
// feed_postgres_test.cc.
namespace slipstream::postgres {
namespace {

using namespace feed_test;
using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::uint64_t kSegment = 1 << 20;

std::string big(std::uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

// A blocking client of the feed.
class Client {
 public:
  explicit Client(const std::filesystem::path& socket, int receive_buffer = 0) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { leave(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void send(std::string_view bytes) { (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void start_up(std::string_view name) {
    const std::string rest = "user\0me\0replication\0true\0application_name\0"s + std::string(name) + "\0\0"s;
    send(big(rest.size() + 8, 4) + big(196608, 4) + rest);
    (void)until('Z');
  }
  void query(std::string_view text) { send("Q" + big(text.size() + 5, 4) + std::string(text) + '\0'); }
  void start(std::string_view name, std::string_view from) {
    start_up(name);
    query("START_REPLICATION " + std::string(from) + " TIMELINE 1");
    (void)until('W');
  }
  void reply(Lsn at) {
    send("d" + big(38, 4) + "r" + big(at.value, 8) + big(at.value, 8) + big(at.value, 8) + big(0, 8) + '\0');
  }

  // The next message; tag 0 at the connection's end or after 10 s without one.
  std::pair<char, std::string> next() {
    while (true) {
      if (buffer_.size() >= 5) {
        const std::size_t length = ByteReader(std::as_bytes(std::span(buffer_)).subspan(1)).be<std::uint32_t>();
        if (buffer_.size() >= 1 + length) {
          std::pair<char, std::string> out{buffer_[0], buffer_.substr(5, length - 4)};
          buffer_.erase(0, 1 + length);
          return out;
        }
      }
      pollfd waiting{fd_, POLLIN, 0};
      if (::poll(&waiting, 1, 10'000) <= 0) return {};
      char bytes[65536];
      const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
      if (got <= 0) return {};
      buffer_.append(bytes, static_cast<std::size_t>(got));
    }
  }
  std::string until(char tag) {
    for (auto message = next(); message.first != 0; message = next())
      if (message.first == tag) return message.second;
    return "nothing";
  }
  // Takes WAL up to `end`, appended to wal.
  bool take_wal(std::size_t bytes) {
    while (wal.size() < bytes) {
      const auto [tag, body] = next();
      if (tag == 0) return false;
      if (tag == 'd' && body[0] == 'w') wal += body.substr(25);
    }
    return true;
  }
  bool ended() {
    for (auto message = next(); message.first != 0; message = next()) {
    }
    char byte;
    return ::recv(fd_, &byte, 1, MSG_DONTWAIT) == 0;
  }

  std::string wal;

 private:
  int fd_ = -1;
  bool connected_ = false;
  std::string buffer_;
};

class Feed : public testing::Test {
 protected:
  Feed() {
    std::filesystem::create_directory(place / "wal");
    const wal::SegmentLayout layout(ByteCount{kSegment});
    for (std::uint64_t number = 1; number <= 20; ++number) {
      std::string bytes(kSegment, '\0');
      for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>((number * kSegment + i) * 2654435761u >> 11);
      std::ofstream(place / "wal" / layout.file_name(TimelineId{1}, number), std::ios::binary) << bytes;
      log += bytes;
    }
    options.socket_directory = place.path();
    options.port = 7001;
    options.allow_users = {own_user()};
    options.wal_directory = place / "wal";
    options.segment_size = ByteCount{kSegment};
    options.system = SystemId{99};
    options.timeline = TimelineId{1};
    options.log_begin = Lsn{kSegment};
    options.wake = [this] { ++wakes; };
  }
  void run() {
    auto started = FeedServer::start(options);
    ASSERT_TRUE(started.has_value()) << started.error().message();
    server = std::move(*started);
  }
  void release(Lsn end) { server->release({end, end, TimelineId{1}}); }
  std::filesystem::path socket() const { return place / ".s.PGSQL.7001"; }

  Place place;
  std::string log;  // From 0/100000.
  FeedOptions options;
  std::atomic<int> wakes{0};
  std::unique_ptr<FeedServer> server;
};

TEST_F(Feed, StreamsEveryByteUpToEachReleaseAndNoneBeyond) {
  run();
  Client client(socket());
  release(Lsn{0x100000 + 5000});
  client.start("a", "0/100000");
  ASSERT_TRUE(client.take_wal(5000));
  std::size_t end = 5000;
  for (const std::size_t more : {8u, 3192u, 1u, 300'000u, 2'000'000u, 16u}) {
    end += more;
    release(Lsn{0x100000 + end});
    ASSERT_TRUE(client.take_wal(end));
    EXPECT_EQ(client.wal.size(), end);
  }
  EXPECT_TRUE(client.wal == log.substr(0, end));
}

TEST_F(Feed, SendsAReleaseAtOnce) {
  run();
  Client client(socket());
  client.start("a", "0/100000");
  std::vector<std::int64_t> took;
  for (std::size_t i = 1; i <= 50; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const auto began = std::chrono::steady_clock::now();
    release(Lsn{0x100000 + 100 * i});
    ASSERT_TRUE(client.take_wal(100 * i));
    took.push_back(
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
  }
  std::ranges::sort(took);
  EXPECT_LT(took[25], 20'000) << "the median, in microseconds";
}

// A standby that has replied, so that it is known what it has applied.
TEST_F(Feed, GathersWhatNobodyWaitsForAndSendsTheRestAtOnce) {
  options.gather = seconds(3);
  run();
  Told told(*server);
  Client client(socket());
  release(Lsn{0x100100});
  client.start("standby_b", "0/100000");
  ASSERT_TRUE(client.take_wal(0x100));
  client.reply(Lsn{0x100100});
  const auto took = [&](const node::Release& next) {
    const auto began = std::chrono::steady_clock::now();
    server->release(next);
    EXPECT_TRUE(client.take_wal(next.fed_end.value - 0x100000));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  // It may take the second of these for the reply to be known.
  (void)took({Lsn{0x100200}, Lsn{0x100200}, TimelineId{1}});
  EXPECT_GT(took({Lsn{0x100300}, Lsn{0x100300}, TimelineId{1}}), 1.5);
  ASSERT_TRUE(told.applied(Lsn{0x100100}));
  EXPECT_LT(took({Lsn{0x100400}, Lsn{0x100400}, TimelineId{1}, Lsn{0x100380}}), 1.5) << "awaited";
  client.reply(Lsn{0x100400});
  EXPECT_TRUE(told.applied(Lsn{0x100400})) << "its reply, too";
  (void)took({Lsn{0x100500}, Lsn{0x100500}, TimelineId{1}});
  EXPECT_LT(took({Lsn{0x300000}, Lsn{0x300000}, TimelineId{1}}), 1.5) << "much";
}

TEST_F(Feed, TakesRepliesWhileItFeedsWithoutAPause) {
  options.gather = milliseconds(20);
  run();
  Told told(*server);
  Client client(socket());
  release(Lsn{0x100100});
  client.start("standby_b", "0/100000");
  client.reply(Lsn{0x100000});
  ASSERT_TRUE(told.applied(Lsn{0x100000}));
  // However it wakes up, there is more to send.
  std::size_t lag_most = 0;
  for (std::uint64_t i = 1; i <= 20'000; ++i) {
    release(Lsn{0x100100 + 8 * i});
    if (i % 20 == 0) client.reply(Lsn{0x100000 + 8 * i});
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    told.take();
    lag_most = std::max(lag_most, i - (told.last.apply.value - 0x100000) / 8);
  }
  EXPECT_LT(lag_most, 2500u);
}

// How often this process's feed thread has gone to sleep.
long sleeps_of_feed() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name, word;
    long sleeps = -1;
    for (std::ifstream status(task.path() / "status"); status >> word;)
      if (word == "Name:")
        status >> name;
      else if (word == "voluntary_ctxt_switches:")
        status >> sleeps;
    if (name == "feed") return sleeps;
  }
  return -1;
}

TEST_F(Feed, SleepsWhileNothingComes) {
  options.gather = milliseconds(2);
  run();
  Told told(*server);
  Client client(socket());
  release(Lsn{0x100100});
  client.start("standby_b", "0/100000");
  for (std::uint64_t i = 1; i <= 20; ++i) {
    release(Lsn{0x100100 + 8 * i});
    client.reply(Lsn{0x100000 + 8 * i});
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  ASSERT_TRUE(told.applied(Lsn{0x100000 + 160}));
  const long before = sleeps_of_feed();
  ASSERT_GE(before, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(sleeps_of_feed() - before, 50);
}

TEST_F(Feed, TellsTheDataThreadOfItsStandbyInOrder) {
  run();
  Told told(*server);
  {
    Client client(socket());
    release(Lsn{0x101000});
    client.start("standby_b", "0/100000");
    ASSERT_TRUE(told.said(1));
    client.reply(Lsn{0x101000});
    EXPECT_TRUE(told.applied(Lsn{0x101000}));
  }
  ASSERT_TRUE(told.said(2));
  EXPECT_EQ(told.words, (std::vector<std::string>{"connected standby_b 0/100000", "lost"}));
  EXPECT_GE(wakes, 2);
}

TEST_F(Feed, WakesTheDataThreadSeldomForRepliesThatNobodyWaitsFor) {
  run();
  Told told(*server);
  Client client(socket());
  release(Lsn{0x101000});
  client.start("standby_b", "0/100000");
  client.reply(Lsn{0x100000});
  ASSERT_TRUE(told.applied(Lsn{0x100000}));
  const int before = wakes;
  for (std::uint64_t i = 1; i <= 400; ++i) {
    client.reply(Lsn{0x100000 + i});
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  EXPECT_TRUE(told.applied(Lsn{0x100000 + 400}));
  EXPECT_LT(wakes - before, 200);
}

TEST_F(Feed, WakesTheDataThreadForEachReplyUpToAnEndThatIsWaitedFor) {
  run();
  Told told(*server);
  Client client(socket());
  server->release({Lsn{0x101000}, Lsn{0x101000}, TimelineId{1}, Lsn{0x100020}});
  client.start("standby_b", "0/100000");
  for (std::uint64_t i = 1; i <= 0x20; ++i) {
    const int before = wakes;
    client.reply(Lsn{0x100000 + i});
    ASSERT_TRUE(told.applied(Lsn{0x100000 + i})) << i;
    EXPECT_GT(wakes, before);
  }
}

TEST_F(Feed, KeepsTheLatestReplyWhenTheyAreNotTaken) {
  run();
  Client client(socket());
  client.start("a", "0/100000");
  for (std::uint64_t i = 1; i <= 5000; ++i) client.reply(Lsn{0x100000 + i});
  client.query("done");  // Ends the stream, so that all replies have been seen.
  (void)client.until('E');
  Told told(*server);
  ASSERT_TRUE(told.said(2));
  EXPECT_EQ(told.words, (std::vector<std::string>{"connected a 0/100000", "lost"}));
  EXPECT_EQ(told.last.apply, Lsn{0x100000 + 5000});
}

TEST_F(Feed, HasOneStandbyAndAnyNumberOfReaders) {
  run();
  Told told(*server);
  release(Lsn{0x140000});
  Client reader(socket()), first(socket()), second(socket());
  reader.start("pg_receivewal", "0/100000");
  first.start("first", "0/100000");
  ASSERT_TRUE(told.said(1));
  second.start("second", "0/120000");
  for (Client* client : {&reader, &first})
    EXPECT_TRUE(client->take_wal(0x40000) && client->wal == log.substr(0, 0x40000));
  EXPECT_TRUE(second.take_wal(0x20000) && second.wal == log.substr(0x20000, 0x20000));
  first.leave();
  ASSERT_TRUE(told.said(3));
  EXPECT_EQ(told.words, (std::vector<std::string>{"connected first 0/100000", "lost", "connected second 0/120000"}));
}

TEST_F(Feed, TakesOnlyTheNamedClientForTheStandby) {
  options.standby_name = "mine";
  run();
  Told told(*server);
  Client other(socket()), mine(socket());
  other.start("walreceiver", "0/100000");
  mine.start("mine", "0/100000");
  ASSERT_TRUE(told.said(1));
  EXPECT_EQ(told.words, (std::vector<std::string>{"connected mine 0/100000"}));
}

TEST_F(Feed, DoesNotLetAClientThatTakesNothingHoldUpOthers) {
  run();
  release(Lsn{kSegment * 20});
  Client stuck(socket()), reader(socket());
  stuck.start_up("stuck");
  stuck.query("START_REPLICATION 0/100000 TIMELINE 1");
  reader.start("reader", "0/100000");
  ASSERT_TRUE(reader.take_wal(19 * kSegment));
  EXPECT_TRUE(reader.wal == log.substr(0, 19 * kSegment));
  const auto began = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < 1000; ++i) release(Lsn{kSegment * 20 + 8 * (i % 2)});
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(1)) << "release() waited";
}

TEST_F(Feed, LosesAReaderThatNeverAnswers) {
  options.receive_timeout = milliseconds(300);
  run();
  Told told(*server);
  Client client(socket());
  client.start("silent", "0/100000");
  ASSERT_TRUE(told.said(2));
  EXPECT_EQ(told.words.back(), "lost");
  EXPECT_TRUE(client.ended());
}

TEST_F(Feed, SaysFromWhereItsReadersNeedTheLog) {
  run();
  EXPECT_EQ(server->needed_from(), Lsn{UINT64_MAX});
  release(Lsn{0x400000});
  Client reader(socket());
  {
    Client standby(socket());
    standby.start("standby", "0/200000");
    reader.start("pg_receivewal", "0/300000");
    EXPECT_TRUE(eventually([&] { return server->needed_from() == Lsn{0x200000}; }));
    standby.reply(Lsn{0x380000});
    EXPECT_TRUE(eventually([&] { return server->needed_from() == Lsn{0x300000}; })) << "the reader's";
    reader.leave();
    EXPECT_TRUE(eventually([&] { return server->needed_from() == Lsn{0x380000}; }));
  }
  EXPECT_TRUE(eventually([&] { return server->view().readers.empty(); }));
  EXPECT_EQ(server->needed_from(), Lsn{0x380000}) << "the standby comes back";
}

TEST_F(Feed, RefusesWhatWasRemovedAndShowsIt) {
  run();
  release(Lsn{0x400000});
  server->set_log_begin(Lsn{0x300000});
  Client client(socket());
  client.start_up("late");
  ASSERT_TRUE(eventually([&] {
    client.query("START_REPLICATION 0/200000 TIMELINE 1");
    return client.until('E').find("58P01\0Mrequested WAL segment 000000010000000000000002 has already been removed"s) !=
           std::string::npos;
  }));
  EXPECT_TRUE(eventually(
      [&] { return server->view().refused_start == "late asked for 0/200000, but this log begins at 0/300000"; }));
  client.query("START_REPLICATION 0/300000 TIMELINE 1");
  EXPECT_TRUE(client.take_wal(0x100000));
  EXPECT_TRUE(eventually([&] { return server->view().refused_start.empty(); }));
}

TEST_F(Feed, RefusesAPeerByItsOperatingSystemUser) {
  options.allow_users = {"nobody"};
  run();
  Client client(socket());
  const std::string rest = "user\0nobody\0replication\0true\0\0"s;
  client.send(big(rest.size() + 8, 4) + big(196608, 4) + rest);
  EXPECT_NE(
      client.until('E').find("28000\0Moperating-system user \""s + own_user() + "\" may not read this replica's log"),
      std::string::npos);
  EXPECT_TRUE(client.ended());
}

TEST_F(Feed, EndsOnlyTheConnectionThatSendsGarbage) {
  run();
  Client good(socket());
  release(Lsn{0x101000});
  good.start("good", "0/100000");
  for (const std::string_view garbage : {"GET / HTTP/1.1\r\n\r\n"sv, "\0\0\0\1"sv, "\0\0\0\x10\0\3\0\0user\0x"sv,
                                         "\xff\xff\xff\xff\xff\xff\xff\xff"sv, "\0\0\0\x9\0\3\0\0x"sv}) {
    Client bad(socket());
    bad.send(garbage);
    if (garbage.size() > 4 && garbage[3] == '\x10')
      bad.leave();
    else
      EXPECT_NE(bad.until('E').find("FATAL"), std::string::npos) << garbage;
  }
  for (const std::string_view garbage : {"d\0\0\0\7rxx"sv, "d\x7f\xff\xff\xff"sv, "\1\2\3\4\5\6\7\x8"sv}) {
    Client bad(socket());
    bad.start("bad", "0/100000");
    bad.send(garbage);
    EXPECT_NE(bad.until('E').find("FATAL"), std::string::npos) << garbage;
    EXPECT_TRUE(bad.ended());
  }
  release(Lsn{0x102000});
  EXPECT_TRUE(good.take_wal(0x2000));
}

TEST_F(Feed, TakesLeaveOfEveryoneWhenItStops) {
  run();
  Told told(*server);
  Client streaming(socket()), idle(socket());
  streaming.start("a", "0/100000");
  idle.start_up("b");
  ASSERT_TRUE(told.said(1));
  server->stop();
  EXPECT_EQ(streaming.until('C'), "COPY 0\0"s);
  EXPECT_TRUE(streaming.ended());
  EXPECT_NE(idle.until('E').find("57P01"), std::string::npos);
  ASSERT_TRUE(told.said(2));
  EXPECT_EQ(told.words.back(), "lost");
  server.reset();
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(Feed, TakesOverADeadSocketAndNeverALivingOne) {
  run();
  const auto second = FeedServer::start(options);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ExitCode::kConfiguration);
  EXPECT_NE(second.error().message().find("another server answers on this socket"), std::string::npos);
  EXPECT_TRUE(Client(socket()).connected()) << "the first one's socket was removed";
  server.reset();

  const int dead = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket().c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(dead, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ::close(dead);
  run();
  EXPECT_TRUE(Client(socket()).connected());
}

TEST_F(Feed, NamesWhatIsWrongWithItsConfiguration) {
  auto broken = options;
  broken.allow_users = {"no such user"};
  EXPECT_EQ(
      FeedServer::start(broken).error().message(),
      "replica.feed.allow_users: there is no operating-system user \"no such user\"\n  to do: name users of this host");
  broken = options;
  broken.socket_directory = place / std::string(120, 'x');
  EXPECT_NE(FeedServer::start(broken).error().message().find("the socket's path is longer than 107 bytes"),
            std::string::npos);
  std::ofstream(place / ".s.PGSQL.7001") << "precious";
  EXPECT_NE(FeedServer::start(options).error().message().find("something that is no socket is in the socket's place"),
            std::string::npos);
  EXPECT_EQ(content_of(place / ".s.PGSQL.7001"), "precious");
}

TEST_F(Feed, TurnsAwayClientsBeyondItsMost) {
  run();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 32; ++i) {
    clients.push_back(std::make_unique<Client>(socket()));
    clients.back()->start_up("pg_receivewal");
  }
  Client late(socket());
  const std::string rest = "user\0me\0replication\0true\0\0"s;
  late.send(big(rest.size() + 8, 4) + big(196608, 4) + rest);
  EXPECT_NE(late.until('E').find("53300"), std::string::npos);
}

}  // namespace
}  // namespace slipstream::postgres
