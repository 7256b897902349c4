#include "node/sealed_port.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>

#include "tests/protocol/samples.h"
#include "tests/seal/hex.h"

namespace slipstream::node {
namespace {

using protocol::Bytes;
using protocol::Verdict;

// Both ends of a wire: a frame sent by one is received by the other, unless `carries` says otherwise.
class Wire {
 public:
  class End : public Port {
   public:
    End(Wire& wire, std::size_t side) : wire_(wire), side_(side) {}
    std::size_t receive(std::span<protocol::Arrival> frames) override {
      held_.clear();
      auto& queue = wire_.queues[side_];
      for (; held_.size() < frames.size() && !queue.empty(); queue.pop_front())
        held_.push_back(std::move(queue.front()));
      for (std::size_t i = 0; i < held_.size(); ++i) frames[i] = protocol::Arrival(held_[i]);
      return held_.size();
    }
    std::size_t room(NodeId) override { return 64; }
    void send(NodeId, const OutFrame& frame) override {
      carry_placed();
      Bytes bytes(frame.head.begin(), frame.head.begin() + static_cast<std::ptrdiff_t>(frame.head_bytes));
      bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
      carry(std::move(bytes));
    }
    std::optional<std::span<std::byte>> append(NodeId, std::size_t bytes) override {
      if (!wire_.has_places) return std::nullopt;
      carry_placed();
      if (wire_.is_full) return std::span<std::byte>{};
      return placed_.emplace(bytes);
    }
    void flush() override { carry_placed(); }
    std::size_t frame_bytes_max(NodeId) const override { return 1472; }

   private:
    void carry(Bytes bytes) {
      wire_.seen.push_back(bytes);
      if (!wire_.carries || wire_.carries(bytes)) wire_.queues[1 - side_].push_back(std::move(bytes));
    }
    void carry_placed() {
      if (auto placed = std::exchange(placed_, std::nullopt)) carry(std::move(*placed));
    }

    Wire& wire_;
    std::size_t side_;
    std::optional<Bytes> placed_;  // Written by the sender until its next call.
    std::deque<Bytes> held_;
  };
  std::array<std::deque<Bytes>, 2> queues;
  std::vector<Bytes> seen;
  std::function<bool(const Bytes&)> carries;
  bool has_places = false, is_full = false;
};

constexpr NodeId kPrimary{1}, kReplica{2};

class SealedPorts : public testing::Test {
 protected:
  static seal::KeyPair host(std::uint64_t seed) {
    return key_pair_of(seal::Secret::random(seal::counting_source(seed)));
  }

  std::unique_ptr<SealedPort> primary(std::uint64_t own = 1, std::uint64_t peer = 2, std::uint64_t cluster = 9) {
    return std::make_unique<SealedPort>(
        primary_end,
        SealOptions{kPrimary, "p", true, host(own), seal::Secret::random(seal::counting_source(cluster)), rekey_packets,
                    seal::counting_source(++randomness)},
        std::vector<SealedPeer>{{kReplica, "a", host(peer).public_key}});
  }
  std::unique_ptr<SealedPort> replica(std::uint64_t own = 2, std::uint64_t peer = 1) {
    return std::make_unique<SealedPort>(
        replica_end,
        SealOptions{kReplica, "a", false, host(own), seal::Secret::random(seal::counting_source(9)), rekey_packets,
                    seal::counting_source(++randomness)},
        std::vector<SealedPeer>{{kPrimary, "p", host(peer).public_key}});
  }
  static void send(SealedPort& from, NodeId self, NodeId to, std::uint64_t number) {
    protocol::FrameHeader header;
    header.source = self, header.destination = to, header.sent_at = number;
    OutFrame out;
    out.head_bytes = protocol::encode(header, protocol::Bye{"text that nobody else may read"}, out.head);
    from.send(to, out);
  }
  static std::vector<std::uint64_t> received(SealedPort& at) {
    std::array<protocol::Arrival, 64> frames;
    std::vector<std::uint64_t> out;
    for (std::size_t count = 0; (count = at.receive(frames)) > 0;)
      for (std::size_t i = 0; i < count; ++i) {
        protocol::Frame frame;
        EXPECT_TRUE(frames[i].is_proven());
        EXPECT_EQ(protocol::decode(frames[i], frame), Verdict::kAccepted);
        out.push_back(frame.header.sent_at);
      }
    return out;
  }
  // A turn of each side. What the replica and the primary were given.
  std::pair<std::vector<std::uint64_t>, std::vector<std::uint64_t>> turn(Duration passed = milliseconds(1)) {
    now = now + passed;
    p->begin_turn(now), a->begin_turn(now);
    auto at_replica = received(*a);
    auto at_primary = received(*p);
    for (int i = 0; i < 4; ++i) {  // A key exchange takes two round trips.
      std::ranges::copy(received(*a), std::back_inserter(at_replica));
      std::ranges::copy(received(*p), std::back_inserter(at_primary));
    }
    return {at_replica, at_primary};
  }
  std::uint64_t refused(const SealedPort& port, const char* why) {
    const auto all = port.refused().view();
    return all.contains(why) ? all.at(why) : 0;
  }

  Wire wire;
  Wire::End primary_end{wire, 0}, replica_end{wire, 1};
  std::uint64_t rekey_packets = seal::kRekeyPackets, randomness = 100;
  Instant now{1'000'000'000};
  std::unique_ptr<SealedPort> p = primary(), a = replica();
};

using Numbers = std::vector<std::uint64_t>;

TEST_F(SealedPorts, CarryFramesBothWaysThatNobodyElseCanRead) {
  turn();
  send(*p, kPrimary, kReplica, 1);
  EXPECT_EQ(turn().first, Numbers{1}) << "the first frame waits for the keys";
  send(*a, kReplica, kPrimary, 2);
  send(*p, kPrimary, kReplica, 3);
  EXPECT_EQ(turn(), (std::pair<Numbers, Numbers>{{3}, {2}}));
  EXPECT_TRUE(p->refused().view().empty() && a->refused().view().empty());
  for (const Bytes& each : wire.seen) {
    const std::string_view text(reinterpret_cast<const char*>(each.data()), each.size());
    EXPECT_EQ(text.find("nobody else"), std::string_view::npos);
  }
}

TEST_F(SealedPorts, SealWhereTheFrameGoesOutFrom) {
  wire.has_places = true;
  send(*p, kPrimary, kReplica, 1);
  turn();
  send(*p, kPrimary, kReplica, 2), send(*p, kPrimary, kReplica, 3);
  p->flush();
  EXPECT_EQ(turn().first, (Numbers{2, 3}));
  wire.is_full = true;
  send(*p, kPrimary, kReplica, 4);
  wire.is_full = false;
  send(*p, kPrimary, kReplica, 5);
  p->flush();
  EXPECT_EQ(turn().first, Numbers{5}) << "what finds no room is dropped, as by send()";
  EXPECT_TRUE(p->refused().view().empty() && a->refused().view().empty());
  for (const Bytes& each : wire.seen) {
    const std::string_view text(reinterpret_cast<const char*>(each.data()), each.size());
    EXPECT_EQ(text.find("nobody else"), std::string_view::npos);
  }
}

TEST_F(SealedPorts, AgreeOverALinkThatLosesMuch) {
  std::uint64_t state = 1;
  wire.carries = [&](const Bytes&) { return (state = state * 6364136223846793005u + 1) >> 63 == 0; };
  for (std::uint64_t i = 0; i < 200 && !a->has_keys(kPrimary); ++i) {
    send(*p, kPrimary, kReplica, i);
    turn(milliseconds(50));
  }
  EXPECT_TRUE(p->has_keys(kReplica) && a->has_keys(kPrimary));
}

TEST_F(SealedPorts, FindNewKeysWhenAPeerWasRestarted) {
  send(*p, kPrimary, kReplica, 1);
  turn();
  a = replica();
  Instant restarted = now;
  for (std::uint64_t i = 2; i < 10; ++i) {
    send(*p, kPrimary, kReplica, i);
    if (!turn(milliseconds(100)).first.empty()) break;
  }
  EXPECT_TRUE(a->has_keys(kPrimary));
  EXPECT_LE(now - restarted, milliseconds(600));
  EXPECT_GE(refused(*a, "unknown_key"), 3u);

  p = primary();
  send(*p, kPrimary, kReplica, 20);
  EXPECT_EQ(turn().first, Numbers{20});
  send(*a, kReplica, kPrimary, 21);
  EXPECT_EQ(turn().second, Numbers{21});
}

TEST_F(SealedPorts, RekeyOftenUnderLossAndReordering) {
  rekey_packets = 10;
  p = primary(), a = replica();
  std::uint64_t state = 3, carried = 0;
  const auto random = [&] { return (state = state * 6364136223846793005u + 1) >> 33; };
  send(*p, kPrimary, kReplica, 0);
  turn();
  std::size_t arrived = 0;
  wire.carries = [&](const Bytes&) { return random() % 20 != 0 && ++carried > 0; };
  for (std::uint64_t i = 1; i <= 5000; ++i) {
    send(*p, kPrimary, kReplica, i);
    auto& queue = wire.queues[1];
    if (queue.size() > 1 && random() % 4 == 0) std::swap(queue[queue.size() - 1], queue[random() % queue.size()]);
    if (i % 8 == 0) {
      arrived += turn(microseconds(10)).first.size();
      send(*a, kReplica, kPrimary, i);
    }
  }
  EXPECT_EQ(p->sessions(), 1u);
  EXPECT_GT(arrived, 4600u);
}

TEST_F(SealedPorts, AcceptNothingOfACaptureThatIsPlayedAgain) {
  for (std::uint64_t i = 1; i <= 20; ++i) {
    send(*p, kPrimary, kReplica, i), send(*a, kReplica, kPrimary, i);
    turn();
  }
  const std::vector<Bytes> capture = wire.seen;
  const auto replay = [&] {
    for (const Bytes& each : capture) wire.queues[0].push_back(each), wire.queues[1].push_back(each);
    return turn();
  };
  EXPECT_EQ(replay(), (std::pair<Numbers, Numbers>{}));
  EXPECT_GE(refused(*a, "replayed"), 19u);
  EXPECT_GE(refused(*a, "bad_cookie"), 1u);
  send(*p, kPrimary, kReplica, 100);
  EXPECT_EQ(turn().first, Numbers{100}) << "the session goes on";

  a = replica(), p = primary();
  EXPECT_EQ(replay(), (std::pair<Numbers, Numbers>{}));
  EXPECT_FALSE(a->has_keys(kPrimary) || p->has_keys(kReplica)) << "also restarted ones accept nothing";
}

TEST_F(SealedPorts, SpeakToNobodyElse) {
  for (const bool has_cluster_key : {true, false}) {
    p = has_cluster_key ? primary(3) : primary(1, 2, 10);
    const char* why = has_cluster_key ? "not_the_peer" : "forged";
    a = replica();
    for (std::uint64_t i = 0; i < 5; ++i) {
      send(*p, kPrimary, kReplica, i);
      EXPECT_EQ(turn(milliseconds(100)).first, Numbers{});
    }
    EXPECT_FALSE(p->has_keys(kReplica));
    EXPECT_GE(refused(*a, why), 1u);
    for (std::uint64_t i = 0; i < 12; ++i) turn(milliseconds(100));
    EXPECT_EQ(p->disagrees(kReplica), has_cluster_key);
  }
  a = replica(3);  // Not the replica that the primary knows.
  p = primary();
  for (std::uint64_t i = 0; i < 5; ++i) send(*p, kPrimary, kReplica, i), turn(milliseconds(100));
  EXPECT_FALSE(p->has_keys(kReplica) || a->has_keys(kPrimary));
}

TEST_F(SealedPorts, RefuseAndCountWhateverElseComes) {
  send(*p, kPrimary, kReplica, 1);
  turn();
  for (const auto& sample : protocol::samples()) {
    auto plain = sample;
    plain.header.source = kPrimary, plain.header.destination = kReplica;
    wire.queues[1].push_back(protocol::encoded(plain));
  }
  wire.queues[1].push_back(Bytes(50));
  wire.queues[1].push_back(Bytes(200));
  EXPECT_EQ(turn().first, Numbers{});
  EXPECT_GE(refused(*a, "not_sealed"), 13u);
  EXPECT_EQ(refused(*a, "truncated"), 1u);
  EXPECT_EQ(refused(*a, "magic"), 1u);
  EXPECT_EQ(refused(*a, "forged"), 1u) << "a request with another cluster's mac";
  send(*p, kPrimary, kReplica, 2);
  EXPECT_EQ(turn().first, Numbers{2});
}

TEST_F(SealedPorts, KeepTheirSessionUnderAFloodOfHandshakes) {
  send(*p, kPrimary, kReplica, 1);
  turn();
  auto flooder = primary(3);
  for (std::uint64_t i = 0; i < 100; ++i) {
    flooder->begin_turn(now = now + seconds(6));
    send(*flooder, kPrimary, kReplica, 1);
    received(*a);
    send(*p, kPrimary, kReplica, i);
    p->begin_turn(now), a->begin_turn(now);
    EXPECT_EQ(received(*a), Numbers{i});
    wire.queues[0].clear();
    send(*a, kReplica, kPrimary, i);
    EXPECT_EQ(received(*p), Numbers{i});
  }
  EXPECT_EQ(p->sessions(), 1u);
}

}  // namespace
}  // namespace slipstream::node
