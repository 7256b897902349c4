#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "node/sealed_port.h"
#include "tests/protocol/samples.h"
#include "tests/seal/hex.h"

// Data sealed once for several replicas: a primary's sealed port and three replicas' on one network.
namespace slipstream::node {
namespace {

using protocol::Bytes;
using protocol::FrameKind;

FrameKind kind_of(const Bytes& frame) { return static_cast<FrameKind>(frame[3]); }

class Hub {
 public:
  class End : public Port {
   public:
    End(Hub& hub, NodeId self) : hub_(hub), self_(self) {}
    std::size_t receive(std::span<protocol::Arrival> frames) override {
      held_.clear();
      auto& queue = hub_.queues[self_];
      for (; held_.size() < frames.size() && !queue.empty(); queue.pop_front())
        held_.push_back(std::move(queue.front()));
      for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = protocol::Arrival(held_[i]);
      return held_.size();
    }
    std::size_t room(NodeId) override { return 64; }
    void send(NodeId peer, const OutFrame& frame) override {
      Bytes bytes(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
      bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
      hub_.sent[peer].push_back(bytes);
      if (!hub_.carries || hub_.carries(peer, bytes)) hub_.queues[peer].push_back(std::move(bytes));
    }
    void flush() override {}
    std::size_t frame_bytes_max(NodeId) const override { return 1472; }

   private:
    Hub& hub_;
    NodeId self_;
    std::deque<Bytes> held_;
  };
  std::map<NodeId, std::deque<Bytes>> queues;
  std::map<NodeId, std::vector<Bytes>> sent;  // To whom.
  std::function<bool(NodeId, const Bytes&)> carries;
};

constexpr std::uint64_t kPiece = 512;

// What lies at a position.
std::byte byte_at(Lsn position) { return static_cast<std::byte>(position.value / kPiece + 1); }

constexpr NodeId kPrimary{1}, kA{2}, kB{3}, kC{4};

class GroupSealing : public testing::Test {
 protected:
  GroupSealing() {
    for (const NodeId id : {kPrimary, kA, kB, kC}) restart(id);
    connect();
  }

  void restart(NodeId id) {
    const auto host = [](NodeId node) { return key_pair_of(seal::Secret::random(seal::counting_source(node.value))); };
    const auto name = [](NodeId node) { return std::string(1, static_cast<char>('o' + node.value)); };
    std::vector<SealedPeer> peers;
    for (const NodeId peer : {kPrimary, kA, kB, kC})
      if ((peer == kPrimary) != (id == kPrimary)) peers.push_back({peer, name(peer), host(peer).public_key});
    ends.try_emplace(id, hub, id);
    ports[id] = std::make_unique<SealedPort>(
        ends.at(id),
        SealOptions{id, name(id), id == kPrimary, host(id), seal::Secret::random(seal::counting_source(9)),
                    rekey_packets, seal::counting_source(++randomness), per_replica},
        peers);
  }
  void connect() {
    for (int i = 0; i < 5; ++i) {
      for (const NodeId id : {kA, kB, kC}) say(kPrimary, id), say(id, kPrimary);
      turn(milliseconds(100));
    }
  }
  void say(NodeId from, NodeId to) {
    protocol::FrameHeader header;
    header.source = from, header.destination = to;
    OutFrame out;
    out.head_bytes = protocol::encode(header, protocol::Bye{}, out.head);
    ports.at(from)->send(to, out);
  }
  // A piece of data at `position` to each of `peers`, in one burst.
  void send_data(Lsn position, const std::vector<NodeId>& peers) {
    payload.assign(kPiece, byte_at(position));
    for (const NodeId peer : peers) {
      protocol::FrameHeader header;
      header.source = kPrimary, header.destination = peer, header.position = position;
      OutFrame out;
      out.head_bytes =
          protocol::encode_data_head(header, {{position, position + ByteCount{kPiece}}, 7}, kPiece, out.head);
      out.payload = payload;
      ports.at(kPrimary)->send(peer, out);
    }
    ports.at(kPrimary)->flush();
  }
  // Positions of the data that each replica was given since the last turn.
  std::map<NodeId, std::vector<std::uint64_t>> turn(Duration passed = milliseconds(1)) {
    now = now + passed;
    std::map<NodeId, std::vector<std::uint64_t>> out;
    for (const auto& [id, port] : ports) port->begin_turn(now);
    for (int i = 0; i < 4; ++i)
      for (const auto& [id, port] : ports) {
        std::array<protocol::Arrival, 64> frames;
        for (std::size_t count = 0; (count = port->receive(frames)) > 0;)
          for (std::size_t k = 0; k < count; ++k) take(frames[k], out[id]);
      }
    return out;
  }
  static void take(const protocol::Arrival& arrival, std::vector<std::uint64_t>& out) {
    protocol::Frame frame;
    ASSERT_EQ(protocol::decode(arrival, frame), protocol::Verdict::kAccepted);
    const auto* data = std::get_if<protocol::Data>(&frame.body);
    if (!data) return;
    out.push_back(frame.header.position.value);
    EXPECT_EQ(data->payload.size(), kPiece);
    for (const std::byte each : data->payload) EXPECT_EQ(each, byte_at(frame.header.position));
  }
  Bytes last_payload(NodeId to) const {
    const Bytes& frame = hub.sent.at(to).back();
    return {frame.end() - static_cast<std::ptrdiff_t>(kPiece), frame.end()};
  }
  std::size_t keys_given(NodeId to) const {
    return static_cast<std::size_t>(std::ranges::count(hub.sent.at(to), FrameKind::kGroupKey, kind_of));
  }
  std::uint64_t refused(NodeId at) const {
    std::uint64_t out = 0;
    for (const auto& [verdict, count] : ports.at(at)->refused().view()) out += count;
    return out;
  }

  Hub hub;
  std::map<NodeId, Hub::End> ends;
  std::map<NodeId, std::unique_ptr<SealedPort>> ports;
  std::uint64_t rekey_packets = seal::kRekeyPackets, randomness = 100;
  bool per_replica = false;
  Instant now{1'000'000'000};
  Bytes payload;
};

using Positions = std::vector<std::uint64_t>;

TEST_F(GroupSealing, SealsWhatAllAreSentOnce) {
  for (std::uint64_t at = 0; at < 10 * kPiece; at += kPiece) {
    send_data(Lsn{at}, {kA, kB, kC});
    EXPECT_EQ(last_payload(kA), last_payload(kB));
    EXPECT_EQ(last_payload(kA), last_payload(kC));
    EXPECT_EQ(std::ranges::search(hub.sent[kA].back(), std::span(payload).first(8)).size(), 0u) << "not in plaintext";
    auto given = turn();
    for (const NodeId id : {kA, kB, kC}) EXPECT_EQ(given[id], Positions{at});
  }
  EXPECT_EQ(ports.at(kPrimary)->shared_frames(), 20u);
  for (const NodeId id : {kPrimary, kA, kB, kC}) EXPECT_EQ(refused(id), 0u);
}

TEST_F(GroupSealing, RepairsForOneReplicaAlone) {
  send_data(Lsn{0}, {kA, kB});
  const Bytes first = last_payload(kB);
  send_data(Lsn{0}, {kB});
  EXPECT_EQ(hub.sent[kB].back().size(), protocol::kDataHeaderBytes + kPiece) << "under its session's key";
  EXPECT_NE(last_payload(kB), first);
  EXPECT_EQ(turn()[kB], (Positions{0, 0}));
}

// Other bytes at the same place, in the next burst.
TEST_F(GroupSealing, ForgetsWhatItSealedWithTheBurst) {
  send_data(Lsn{0}, {kA});
  send_data(Lsn{kPiece}, {kB});
  EXPECT_NE(last_payload(kA), last_payload(kB));
  EXPECT_EQ(turn()[kB], Positions{kPiece});
  EXPECT_EQ(ports.at(kPrimary)->shared_frames(), 0u);
}

TEST_F(GroupSealing, ChangesKeysUnderLossAndReordering) {
  rekey_packets = 100;
  for (const NodeId id : {kPrimary, kA, kB, kC}) restart(id);
  connect();
  std::uint64_t state = 3, lost = 0;
  const auto random = [&] { return (state = state * 6364136223846793005u + 1) >> 33; };
  hub.carries = [&](NodeId, const Bytes& bytes) {
    const bool loses = random() % 20 == 0;
    lost += loses && kind_of(bytes) == FrameKind::kData;
    return !loses;
  };
  std::size_t arrived = 0;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    send_data(Lsn{i * kPiece}, {kA, kB, kC});
    for (const NodeId id : {kA, kB, kC}) {
      auto& queue = hub.queues[id];
      if (queue.size() > 1 && random() % 4 == 0) std::swap(queue.back(), queue[random() % queue.size()]);
      say(id, kPrimary);
    }
    if (i % 4 == 3)
      for (const auto& [id, given] : turn()) arrived += given.size();
  }
  hub.carries = {};
  for (const auto& [id, given] : turn()) arrived += given.size();
  EXPECT_EQ(arrived + lost, 15'000u) << "what was not lost was opened";
  EXPECT_GE(keys_given(kA), 40u);
  EXPECT_GT(ports.at(kPrimary)->shared_frames(), 8'000u);
  EXPECT_EQ(ports.at(kPrimary)->sessions(), 3u);
}

TEST_F(GroupSealing, UsesNoKeyThatOneWhoLeftHolds) {
  send_data(Lsn{0}, {kA, kB, kC});
  turn();
  const std::size_t before = keys_given(kA);
  hub.carries = [](NodeId to, const Bytes& bytes) { return to != kC && bytes[20] != static_cast<std::byte>(kC.value); };
  for (int i = 0; i < 70; ++i) {
    for (const NodeId id : {kA, kB, kC}) say(kPrimary, id);
    say(kA, kPrimary), say(kB, kPrimary);
    turn(milliseconds(100));
  }
  EXPECT_EQ(keys_given(kA), before + 1);
  EXPECT_EQ(keys_given(kB), before + 1);
  EXPECT_EQ(keys_given(kC), before);
  send_data(Lsn{kPiece}, {kA, kB});
  EXPECT_EQ(last_payload(kA), last_payload(kB));
  auto given = turn();
  EXPECT_EQ(given[kA], Positions{kPiece});
  EXPECT_EQ(given[kB], Positions{kPiece});
}

TEST_F(GroupSealing, ServesARestartedReplicaUnderItsOwnKeysUntilItHoldsTheGroups) {
  send_data(Lsn{0}, {kA, kB, kC});
  turn();
  restart(kB);
  std::vector<std::uint64_t> given;
  for (std::uint64_t i = 1; i < 10; ++i) {
    send_data(Lsn{i * kPiece}, {kA, kB, kC});
    say(kB, kPrimary);
    auto now_given = turn(milliseconds(100));
    EXPECT_EQ(now_given[kA], Positions{i * kPiece});
    given.insert(given.end(), now_given[kB].begin(), now_given[kB].end());
  }
  EXPECT_GE(given.size(), 4u);
  send_data(Lsn{10 * kPiece}, {kA, kB});
  EXPECT_EQ(last_payload(kA), last_payload(kB)) << "a member again";
}

TEST_F(GroupSealing, GoesOnWithoutOneThatNeverAnswersAboutKeys) {
  hub.carries = [](NodeId, const Bytes& bytes) {
    return kind_of(bytes) != FrameKind::kGroupKeyHeld || bytes[20] != static_cast<std::byte>(kB.value);
  };
  for (const NodeId id : {kPrimary, kA, kB, kC}) restart(id);
  connect();
  send_data(Lsn{0}, {kA, kB, kC});
  EXPECT_EQ(last_payload(kA), last_payload(kC));
  EXPECT_NE(last_payload(kA), last_payload(kB));
  auto given = turn();
  for (const NodeId id : {kA, kB, kC}) EXPECT_EQ(given[id], Positions{0});
}

// The path that carries the probe carries data of that length with what the group adds, whether or not it is sealed for
// the group just then.
TEST_F(GroupSealing, APathProbeIsAsLongOnTheWayAsTheLongestDataItStandsFor) {
  const std::uint16_t told = static_cast<std::uint16_t>(ports.at(kPrimary)->frame_bytes_max(kA));
  EXPECT_EQ(told, 1472 - protocol::kGroupSealBytes);
  protocol::FrameHeader header;
  header.source = kPrimary, header.destination = kA;
  OutFrame out;
  out.head_bytes = protocol::encode_path_probe_head(header, {5, told}, out.head);
  const Bytes padding(told - out.head_bytes);
  out.payload = padding;
  ports.at(kPrimary)->send(kA, out);
  EXPECT_EQ(hub.sent.at(kA).back().size(), 1472u);
  ports.at(kA)->begin_turn(now);
  std::array<protocol::Arrival, 8> frames;
  ASSERT_EQ(ports.at(kA)->receive(frames), 1u);
  protocol::Frame frame;
  ASSERT_EQ(protocol::decode(frames[0], frame), protocol::Verdict::kAccepted);
  EXPECT_EQ(std::get<protocol::PathProbe>(frame.body).frame_bytes, told) << "what the primary asked about";

  send_data(Lsn{0}, {kA, kB});
  EXPECT_EQ(hub.sent.at(kA).back().size(), protocol::kGroupedHeadBytes + kPiece);
}

TEST_F(GroupSealing, IsNotDoneWhereEachReplicaIsToHaveKeysOfItsOwn) {
  per_replica = true;
  hub.sent.clear();
  for (const NodeId id : {kPrimary, kA, kB, kC}) restart(id);
  connect();
  EXPECT_EQ(keys_given(kA), 0u);
  send_data(Lsn{0}, {kA, kB});
  EXPECT_NE(last_payload(kA), last_payload(kB));
  EXPECT_EQ(turn()[kB], Positions{0});
}

}  // namespace
}  // namespace slipstream::node
