#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "tests/node/world.h"

// A primary and a replica over everything that a network can do to their first frames: every subset lost, every subset
// coming twice, every order. Both for the handshake and for a short stream.
namespace slipstream::node {
namespace {

constexpr std::size_t kFrames = 12;

class Exchange {
 public:
  enum class Of { kHandshake, kStream };

  explicit Exchange(Of of) : world("ANY 1 (b1)", 1) {
    if (of == Of::kStream) {
      EXPECT_TRUE(world.until([&] { return world.all_streaming(); }));
      world.run(milliseconds(20));
      resent_before_ = world.replica_view(0).bytes_resent;
    }
    begin_ = world.now;
    world.network.detain = [this](NodeId from, NodeId to, const Network::Wire& bytes) {
      return on_frame(from, to, bytes);
    };
    if (of == Of::kStream) {
      for (int i = 0; i < 6; ++i) world.wal.record(1200);
      world.flush();
    }
  }

  // What becomes of the n-th frame of both directions: when it arrives, once or more often.
  std::function<std::vector<Duration>(std::size_t number)> fate;

  // Runs until all is acknowledged, and expects that nothing was lost, and little said again.
  void run() {
    const auto done = [&] { return world.upstream.last.flush == world.wal.end() && late_.empty(); };
    while (!done() && world.now - begin_ < seconds(10)) {
      deliver();
      world.jump();
      if (!late_.empty()) world.now = std::min(world.now, std::max(world.now, late_.begin()->first));
    }
    ASSERT_TRUE(done()) << world.replica_view(0).state << " " << world.replica_view(0).reason;
    world.run(milliseconds(1));
    const ReplicaSelfView replica = world.replica(0).view(world.now);
    EXPECT_EQ(replica.durable_end, world.wal.end());
    EXPECT_TRUE(world.disk_holds(0, world.wal.end()));
    EXPECT_EQ(replica.bytes_received, (world.wal.end() - kLogBegin).value) << "no byte is taken twice";
    EXPECT_EQ(world.view().epoch, (Epoch{1, 1})) << "a bad network is no reason for a new epoch";
    EXPECT_EQ(world.view().state, "running");
  }

  std::uint64_t resent() { return world.replica_view(0).bytes_resent - resent_before_; }
  std::size_t frames() const { return frames_; }
  std::uint64_t lost_bytes() const { return lost_bytes_; }
  Duration took() const { return world.now - begin_; }

  World world;

 private:
  bool on_frame(NodeId, NodeId to, const Network::Wire& bytes) {
    const std::size_t number = frames_++;
    if (number >= kFrames) return false;
    const auto arrivals = fate(number);
    if (arrivals.empty()) lost_bytes_ += bytes.size();
    for (const Duration delay : arrivals) late_.emplace(world.now + delay, std::pair(to, bytes));
    return true;
  }

  void deliver() {
    while (!late_.empty() && late_.begin()->first <= world.now) {
      world.network.inject(late_.begin()->second.first, late_.begin()->second.second);
      late_.erase(late_.begin());
    }
  }

  Instant begin_;
  std::size_t frames_ = 0;
  std::uint64_t lost_bytes_ = 0, resent_before_ = 0;
  std::multimap<Instant, std::pair<NodeId, Network::Wire>> late_;
};

class SmallNetworks : public testing::TestWithParam<Exchange::Of> {
 public:
  // Thousands of worlds of some megabytes each: their memory is taken from the system once.
  static void SetUpTestSuite() { mallopt(M_MMAP_THRESHOLD, 1 << 30), mallopt(M_TRIM_THRESHOLD, 1 << 30); }
};

TEST_P(SmallNetworks, SurviveEveryLossAmongTheFirstTwelveFrames) {
  std::size_t most_frames = 0;
  for (std::uint64_t lost = 0; lost < 1u << kFrames; ++lost) {
    SCOPED_TRACE(lost);
    Exchange exchange(GetParam());
    exchange.fate = [&](std::size_t n) {
      return (lost >> n & 1) != 0 ? std::vector<Duration>{} : std::vector<Duration>{{}};
    };
    exchange.run();
    EXPECT_LE(exchange.resent(), 2 * exchange.lost_bytes());
    most_frames = std::max(most_frames, exchange.frames());
    if (HasFailure()) return;
  }
  EXPECT_LE(most_frames, 5 * kFrames);
}

TEST_P(SmallNetworks, SurviveEveryRepetitionAmongTheFirstTwelveFrames) {
  for (std::uint64_t twice = 0; twice < 1u << kFrames; ++twice) {
    SCOPED_TRACE(twice);
    Exchange exchange(GetParam());
    exchange.fate = [&](std::size_t n) {
      const Duration later = n % 2 == 0 ? Duration{} : milliseconds(1);
      return (twice >> n & 1) != 0 ? std::vector<Duration>{{}, later} : std::vector<Duration>{{}};
    };
    exchange.run();
    EXPECT_EQ(exchange.resent(), 0u);
    if (HasFailure()) return;
  }
}

// By 150 us frames of one burst overtake each other; by 60 ms also greetings that were repeated meanwhile.
TEST_P(SmallNetworks, SurviveEveryOrderOfSixFrames) {
  for (const Duration apart : {microseconds(150), milliseconds(60)}) {
    std::array<int, 6> order;
    std::iota(order.begin(), order.end(), 0);
    do {
      SCOPED_TRACE(testing::PrintToString(order));
      Exchange exchange(GetParam());
      exchange.fate = [&](std::size_t n) {
        return std::vector{n < order.size() ? Duration{apart.ns * order[n]} : Duration{}};
      };
      exchange.run();
      if (HasFailure()) return;
    } while (std::ranges::next_permutation(order).found);
  }
}

INSTANTIATE_TEST_SUITE_P(, SmallNetworks, testing::Values(Exchange::Of::kHandshake, Exchange::Of::kStream),
                         [](const auto& of) { return of.param == Exchange::Of::kStream ? "Stream" : "Handshake"; });

}  // namespace
}  // namespace slipstream::node
