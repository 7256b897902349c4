// Sender and Receiver together, over bad networks, in virtual time.
#include <gtest/gtest.h>

#include "tests/protocol/link.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kMiB = 1u << 20;

struct Weather {
  const char* name;
  Conditions conditions;
};

class TransferIn : public testing::TestWithParam<Weather> {};

TEST_P(TransferIn, EverythingArrivesEqual) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Link link(3 * kMiB, seed, GetParam().conditions);
    if (seed % 2 == 0) link.offer_between(1, 3000);
    if (seed % 3 == 0) link.release_after(milliseconds(2));
    ASSERT_TRUE(link.run(seconds(60))) << "seed " << seed << ": received " << to_string(link.receiver.received_end())
                                       << " of " << to_string(link.end);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , TransferIn,
    testing::Values(Weather{"Calm", {}}, Weather{"Loss1", {.loss = 0.01}}, Weather{"Loss10", {.loss = 0.1}},
                    Weather{"Loss30", {.loss = 0.3}}, Weather{"Duplication", {.duplicate = 0.5}},
                    Weather{"Overtaking", {.overtaken = 0.3, .late = milliseconds(3)}},
                    Weather{"Corruption", {.corrupt = 0.003}},
                    Weather{"LongWay", {.loss = 0.02, .delay = milliseconds(20)}},
                    Weather{
                        "Everything",
                        {.loss = 0.1, .duplicate = 0.1, .overtaken = 0.2, .corrupt = 0.001, .late = milliseconds(1)}}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(Transfer, SendsNothingTwiceOnAQuietNetwork) {
  Link link(8 * kMiB, 1);
  ASSERT_TRUE(link.run(seconds(10)));
  EXPECT_EQ(link.sender.counters().bytes_resent, 0u);
  EXPECT_EQ(link.receiver.counters().bytes_duplicate, 0u);
  EXPECT_EQ(link.sender.counters().bytes_sent, 8 * kMiB);
}

// The promise: repair traffic is bounded by what was lost.
TEST(Transfer, ResendsAtMostTwiceWhatWasLostAtOnePercentWithMildOvertaking) {
  for (const Duration delay : {microseconds(10), microseconds(50), milliseconds(1), milliseconds(20)}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      Link link(8 * kMiB, seed, {.loss = 0.01, .overtaken = 0.02, .delay = delay});
      ASSERT_TRUE(link.run(seconds(60)));
      EXPECT_GT(link.traffic.lost_bytes, 20'000u);
      EXPECT_LE(link.sender.counters().bytes_resent, 2 * link.traffic.lost_bytes)
          << "delay " << delay.ns << " ns, seed " << seed;
    }
  }
}

TEST(Transfer, LearnsHowMuchTheNetworkOvertakesInsteadOfResendingEverythingLate) {
  Link link(16 * kMiB, 1, {.overtaken = 0.02, .late = milliseconds(1)});
  ASSERT_TRUE(link.run(seconds(10)));
  EXPECT_LT(link.sender.counters().bytes_resent, 16 * kMiB / 200);
}

TEST(Transfer, OfALostTailIsRepairedByAProbe) {
  for (std::uint64_t lost = 1; lost <= 10; ++lost) {
    Link link(10 * 1336, 1);
    link.offer_between(kBatchBytesMax, kBatchBytesMax);
    link.drop = [&](std::uint64_t frame, FrameKind) { return frame >= 10 - lost && frame < 10; };
    const Instant start = link.now;
    ASSERT_TRUE(link.run(seconds(1)));
    EXPECT_GE(link.traffic.probes, 1u);
    EXPECT_LT((link.now - start).ns, milliseconds(20).ns) << lost << " lost";
  }
}

// Over memif a round trip takes about a microsecond. Nothing follows the lost frame, so nobody sees a gap.
TEST(Transfer, OfALostLastFrameIsRepairedWithinAMillisecondOfAMemifLink) {
  for (const Duration delay : {Duration{500}, microseconds(5), microseconds(50)}) {
    Link link(100 * 1336, 1, {.delay = delay});
    link.offer_between(1336, 1336);
    std::uint64_t sent = 0;
    Instant lost_at{};
    link.drop = [&](std::uint64_t, FrameKind kind) {
      if (kind != FrameKind::kData || ++sent != 100) return false;
      lost_at = link.now;
      return true;
    };
    ASSERT_TRUE(link.run(seconds(1)));
    EXPECT_EQ(link.sender.counters().bytes_resent, 1336u);
    EXPECT_LT((link.now - lost_at).ns, milliseconds(1).ns) << "delay " << delay.ns << " ns";
    EXPECT_GT((link.now - lost_at).ns, 0);
  }
}

TEST(Transfer, SurvivesEveryLossAmongTheFirstTwelveFrames) {
  std::int64_t slowest = 0;
  for (std::uint64_t subset = 0; subset < 4096; ++subset) {
    Link link(6000, 1);
    link.payload_of(1000);
    link.offer_between(1, 2500);
    link.drop = [&](std::uint64_t frame, FrameKind) { return frame < 12 && (subset >> frame & 1) != 0; };
    const Instant start = link.now;
    ASSERT_TRUE(link.run(seconds(5))) << "subset " << subset;
    slowest = std::max(slowest, (link.now - start).ns);
  }
  EXPECT_LT(slowest, seconds(1).ns);
}

TEST(Transfer, AsksForAHundredGapsInFewAcks) {
  Link link(201 * 1000, 1);
  link.payload_of(1000);
  link.offer_between(1000, 1000);
  std::uint64_t sent = 0;
  link.drop = [&](std::uint64_t, FrameKind kind) { return kind == FrameKind::kData && sent < 200 && ++sent % 2 == 0; };
  ASSERT_TRUE(link.run(seconds(1)));
  EXPECT_GE(link.receiver.counters().requests_sent, 100u);
  EXPECT_LE(link.receiver.counters().requests_sent, 120u);
  EXPECT_LE(link.traffic.asking_acks, 12u);
  EXPECT_EQ(link.sender.counters().bytes_resent, link.traffic.lost_bytes);
}

// A hundred frames are lost in 10 MiB, and others at random.
class HundredGaps {
 public:
  HundredGaps(Duration delay, double loss, std::uint64_t seed) : link(10 * kMiB, seed, {.loss = loss, .delay = delay}) {
    link.drop = [this](std::uint64_t, FrameKind kind) {
      const bool gap = kind == FrameKind::kData && ++sent_ % 78 == 0 && lost < 100;
      lost += gap;
      return gap;
    };
  }
  Link link;
  std::uint64_t lost = 0;

 private:
  std::uint64_t sent_ = 0;
};

constexpr std::array kOneWay{Duration{500}, microseconds(50), microseconds(500), milliseconds(5), milliseconds(20)};

TEST(Transfer, RepairsAHundredGapsInTenMebibytesWithFewRequests) {
  for (const Duration delay : kOneWay) {
    HundredGaps run(delay, 0, 1);
    ASSERT_TRUE(run.link.run(seconds(10)));
    EXPECT_EQ(run.lost, 100u);
    EXPECT_LE(run.link.receiver.counters().requests_sent, 150u) << "delay " << delay.ns << " ns";
    EXPECT_LE(2 * run.link.sender.counters().bytes_resent, 3 * run.link.traffic.lost_bytes)
        << "delay " << delay.ns << " ns";
  }
}

// Requests and repairs are lost, too.
TEST(Transfer, RepairsAHundredGapsInTenMebibytesWithFewRequestsUnderRandomLoss) {
  for (const Duration delay : kOneWay)
    for (const double loss : {0.01, 0.05})
      for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        HundredGaps run(delay, loss, seed);
        ASSERT_TRUE(run.link.run(seconds(60)));
        const std::uint64_t lost_frames = run.link.traffic.lost_bytes / 1336;
        EXPECT_LE(2 * run.link.receiver.counters().requests_sent, 3 * lost_frames) << "delay " << delay.ns << " ns";
        EXPECT_LE(2 * run.link.sender.counters().bytes_resent, 3 * run.link.traffic.lost_bytes)
            << "delay " << delay.ns << " ns";
      }
}

TEST(Transfer, GoesOnWhenEveryAckThatOpensTheWindowIsLost) {
  Link link(4 * kMiB, 1);
  link.release_after(milliseconds(5));
  std::uint64_t probes_before = 0, dropped = 0;
  link.drop = [&](std::uint64_t, FrameKind kind) {
    const bool shut = link.sender.sent_end() < link.end && !link.sender.peek_piece(1000, link.now);
    if (!shut) probes_before = link.traffic.probes;
    const bool opens = link.receiver.window_end() > link.sender.sent_end();
    if (!shut || kind != FrameKind::kAck || !opens || link.traffic.probes > probes_before + 3) return false;
    ++dropped;
    return true;
  };
  const Instant start = link.now;
  ASSERT_TRUE(link.run(seconds(10)));
  EXPECT_GE(dropped, 1u) << "the case did not occur";
  EXPECT_LT((link.now - start).ns, milliseconds(50).ns) << "waited for a heartbeat";
}

TEST(Transfer, TheSameSeedTwiceSendsTheSame) {
  const auto traffic = [](std::uint64_t seed) {
    Link link(2 * kMiB, seed, {.loss = 0.1, .duplicate = 0.1, .overtaken = 0.2, .corrupt = 0.001});
    EXPECT_TRUE(link.run(seconds(60)));
    return std::tuple(link.now, link.traffic.frames, link.traffic.lost_bytes, link.sender.counters().bytes_sent);
  };
  EXPECT_EQ(traffic(5), traffic(5));
  EXPECT_NE(traffic(5), traffic(6));
}

}  // namespace
}  // namespace slipstream::protocol
