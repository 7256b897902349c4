#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "protocol/frame.h"
#include "tests/node/world.h"

// A session of format 1, as its two nodes spoke it, against today's nodes: each is played what the other said then, at
// the times of then. So long as this holds, a node speaks to one of the first format, and a later version's changes are
// found here. tests/golden/session/format_1.txt; SLIPSTREAM_REWRITE_GOLDEN=1 records anew, only for a format that was
// never released.
namespace slipstream::node {
namespace {

constexpr NodeId kReplicaId{2};
constexpr Instant kBegin{1'000'000'000};

struct Spoken {
  Instant at;
  NodeId from;
  Network::Wire bytes;
};

std::filesystem::path path() {
  return std::filesystem::path(SLIPSTREAM_SOURCE_DIR) / "tests" / "golden" / "session" / "format_1.txt";
}

// A line a frame: microseconds since the begin, the node that sent it, its bytes.
std::vector<Spoken> read_recording() {
  std::vector<Spoken> out;
  std::ifstream in(path());
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    std::int64_t us = 0;
    Spoken spoken;
    std::string hex;
    words >> us >> spoken.from.value >> hex;
    spoken.at = kBegin + microseconds(us);
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      spoken.bytes.push_back(static_cast<std::byte>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    out.push_back(std::move(spoken));
  }
  return out;
}

void write_recording(const std::vector<Spoken>& recording) {
  std::filesystem::create_directories(path().parent_path());
  std::ofstream out(path());
  out << "# A session of format 1 (docs/wire_format.md): microseconds, sender (1 the primary, 2 the replica), frame\n";
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const Spoken& each : recording) {
    out << (each.at - kBegin).ns / 1000 << ' ' << each.from.value << ' ';
    for (const std::byte byte : each.bytes)
      out << kDigits[std::to_integer<int>(byte) >> 4] << kDigits[std::to_integer<int>(byte) & 15];
    out << '\n';
  }
}

// The session: opened, commits one by one with a frame lost on the way, a longer stretch, silence.
class Session {
 public:
  Session() : world("ANY 1 (b1)", 1) { world.now = kBegin; }

  // From now on `muted` says nothing itself; what it said then is heard instead.
  void play(NodeId muted, const std::vector<Spoken>& recording) {
    world.network.drop = [muted](NodeId from, NodeId, const protocol::Frame&) { return from == muted; };
    for (const Spoken& each : recording)
      if (each.from == muted) waiting_.push_back(each);
  }
  void lose_one_frame() {
    world.network.drop = [this](NodeId from, NodeId, const protocol::Frame& frame) {
      return from == kPrimaryId && frame.header.kind == protocol::FrameKind::kData && ++data_frames_ == 5;
    };
  }

  void run() {
    world.connect();
    advance(milliseconds(300));
    for (int i = 0; i < 8; ++i) {
      world.commit(100 + 300 * static_cast<std::size_t>(i % 3));
      advance(milliseconds(2));
    }
    world.write(12, 700);
    world.flush();
    advance(milliseconds(250));
  }

  World world;

 private:
  void advance(Duration duration) {
    for (const Instant end = world.now + duration; world.now < end;) {
      for (; !waiting_.empty() && waiting_.front().at <= world.now; waiting_.pop_front())
        world.network.inject(waiting_.front().from == kPrimaryId ? kReplicaId : kPrimaryId, waiting_.front().bytes);
      world.turn();
    }
  }

  std::deque<Spoken> waiting_;
  int data_frames_ = 0;
};

std::vector<Spoken> record() {
  std::vector<Spoken> out;
  Session session;
  session.lose_one_frame();
  session.world.network.carried = [&](NodeId from, NodeId, const Network::Wire& bytes) {
    out.push_back({session.world.now, from, bytes});
  };
  session.run();
  EXPECT_EQ(session.world.upstream.last.flush, session.world.wal.end());
  return out;
}

std::vector<Spoken> recording() {
  if (std::getenv("SLIPSTREAM_REWRITE_GOLDEN")) write_recording(record());
  auto out = read_recording();
  EXPECT_FALSE(out.empty()) << path();
  return out;
}

// The WAL that the recorded primary shipped, put together again.
std::map<Lsn, std::byte> shipped(const std::vector<Spoken>& spoken) {
  std::map<Lsn, std::byte> out;
  for (const Spoken& each : spoken) {
    protocol::Frame frame;
    EXPECT_EQ(protocol::decode(each.bytes, frame), protocol::Verdict::kAccepted);
    if (frame.header.kind != protocol::FrameKind::kData) continue;
    const auto payload = std::get<protocol::Data>(frame.body).payload;
    for (std::size_t i = 0; i < payload.size(); ++i) out[frame.header.position + ByteCount{i}] = payload[i];
  }
  return out;
}

TEST(RecordedPeer, IsOfTheFirstFormatAndSaidEverythingThatASessionNeeds) {
  std::map<std::pair<std::uint16_t, protocol::FrameKind>, int> kinds;
  for (const Spoken& each : recording()) {
    ASSERT_EQ(each.bytes.at(2), std::byte{1});
    protocol::Frame frame;
    ASSERT_EQ(protocol::decode(each.bytes, frame), protocol::Verdict::kAccepted);
    ++kinds[{each.from.value, frame.header.kind}];
  }
  using Kind = protocol::FrameKind;
  for (const Kind kind : {Kind::kHello, Kind::kAdopt, Kind::kPolicy, Kind::kData})
    EXPECT_TRUE(kinds.contains({kPrimaryId.value, kind})) << static_cast<int>(kind);
  for (const Kind kind : {Kind::kWelcome, Kind::kAck})
    EXPECT_TRUE(kinds.contains({kReplicaId.value, kind})) << static_cast<int>(kind);
}

TEST(RecordedPeer, TodaysReplicaKeepsWhatAPrimaryOfTheFirstFormatShips) {
  const auto spoken = recording();
  Session session;
  session.play(kPrimaryId, spoken);
  session.run();
  const auto wal = shipped(spoken);
  ASSERT_FALSE(wal.empty());
  const Lsn end = wal.rbegin()->first + ByteCount{1};
  ReplicaHost& replica = session.world.replica(0);
  const ReplicaSelfView view = replica.view(session.world.now);
  EXPECT_EQ(view.state, "receiving") << view.reason;
  EXPECT_EQ(view.durable_end, end);
  EXPECT_EQ(view.final_end, end);
  EXPECT_EQ(view.policy, "ANY 1 (b1)");
  for (const auto& [at, byte] : wal) ASSERT_EQ(replica.disk.bytes.at((at - kLogBegin).value), byte) << to_string(at);
}

// A replica repeats the version of the policy that it was told: those of today are higher. All else stays as it was.
std::vector<Spoken> telling_of_version(std::uint64_t version, std::vector<Spoken> spoken) {
  constexpr std::uint64_t kRecordedVersion = 2;  // Once its member was admitted.
  for (Spoken& each : spoken) {
    protocol::Frame frame;
    EXPECT_EQ(protocol::decode(each.bytes, frame), protocol::Verdict::kAccepted);
    auto* acked = std::get_if<protocol::Ack>(&frame.body);
    if (!acked || acked->policy_version != kRecordedVersion) continue;
    const auto encoded = [&] {
      Network::Wire out(protocol::kControlBytesMax);
      out.resize(protocol::encode(frame.header, frame.body, out));
      return out;
    };
    EXPECT_EQ(encoded(), each.bytes);
    acked->policy_version = version;
    each.bytes = encoded();
  }
  return spoken;
}

TEST(RecordedPeer, TodaysPrimaryCommitsByTheWordOfAReplicaOfTheFirstFormat) {
  Session session;
  State state = session.world.primary_state();
  state.policy = {2, "ANY 1 (b1)", {{"b1", kReplicaId, LogId{{7, kReplicaId.value}}}}};
  session.world.primary_disk.state = encode(state);
  session.world.start_primary();
  session.play(kReplicaId, telling_of_version(session.world.view().policy_version, recording()));
  session.run();
  EXPECT_TRUE(session.world.streaming(0)) << session.world.replica_view(0).state;
  EXPECT_EQ(session.world.upstream.last.flush, session.world.wal.end());
  EXPECT_EQ(session.world.upstream.last.apply, session.world.wal.end());
}

}  // namespace
}  // namespace slipstream::node
