#include "protocol/rate_control.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <vector>

#include "base/digest.h"
#include "protocol/receiver.h"
#include "protocol/sender.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kFrameBytes = 8192, kBatchBytes = kBatchBytesMax, kRingBytes = 8u << 20;
constexpr Lsn kBegin{std::uint64_t{16} << 20};

std::span<const std::byte> zeros() {
  static const std::vector<std::byte> memory(kBatchBytes);
  return memory;
}

// One sender that always has more to send, and its receiver.
struct Stream {
  explicit Stream(RateLimits limits, Instant now)
      : ring(kRingBytes),
        sender(kBegin, kBegin + ByteCount{kRingBytes}, milliseconds(100), now, limits),
        receiver(ring, kBegin, kBegin, now) {}

  void offer() {
    static const std::uint64_t digest = xxh3_64(zeros());
    while (sender.wants_batch())
      sender.offer({{sender.offered_end(), sender.offered_end() + ByteCount{kBatchBytes}}, digest});
  }

  std::vector<std::byte> ring;
  Sender sender;
  Receiver receiver;
};

// Streams whose frames share one link of `rate` bytes a second with a long queue; acks come back at once.
class Bottleneck {
 public:
  Bottleneck(double rate, Duration delay) : rate_(rate), delay_(delay) {}

  void add(RateLimits limits) { streams.push_back(std::make_unique<Stream>(limits, now)); }

  void run(Duration duration) {
    for (const Instant end = now + duration; now < end; now = now + microseconds(20)) {
      deliver();
      for (std::size_t i = 0; i < streams.size(); ++i) send((i + turn_) % streams.size());
      ++turn_;
    }
  }
  std::uint64_t received(std::size_t stream) const { return (streams[stream]->receiver.received_end() - kBegin).value; }
  Duration queue() const { return busy_until_ > now ? busy_until_ - now : Duration{}; }

  std::vector<std::unique_ptr<Stream>> streams;
  Instant now{1'000'000'000};

 private:
  struct Frame {
    Instant arrives;
    std::size_t stream;
    FrameHeader header;
    std::optional<Data> data;
    std::optional<Probe> probe;
  };
  struct Answer {
    Instant arrives;
    std::size_t stream;
    Ack ack;
  };

  void send(std::size_t index) {
    Stream& stream = *streams[index];
    stream.offer();
    Frame frame{{}, index, {}, {}, {}};
    frame.header.sent_at = static_cast<std::uint64_t>(now.ns);
    for (int i = 0; i < 8; ++i) {
      const auto piece = stream.sender.peek_piece(kFrameBytes, now);
      if (!piece) break;
      frame.header.position = piece->range.begin;
      frame.data = Data{piece->batch, zeros().first(piece->range.size().value)};
      stream.sender.pop_piece(*piece, now);
      carry(frame, piece->range.size().value);
    }
    if (!stream.sender.probe_due(now)) return;
    frame.data.reset(), frame.probe = Probe{stream.sender.probe_end(now), true};
    stream.sender.on_probe_sent(now);
    carry(frame, 128);
  }
  void carry(Frame frame, std::size_t bytes) {
    busy_until_ =
        std::max(busy_until_, now) + Duration{static_cast<std::int64_t>(static_cast<double>(bytes) / rate_ * 1e9)};
    frame.arrives = busy_until_ + delay_;
    flying_.push_back(frame);
  }
  void deliver() {
    for (; !flying_.empty() && flying_.front().arrives <= now; flying_.pop_front()) {
      const Frame& frame = flying_.front();
      Receiver& receiver = streams[frame.stream]->receiver;
      if (frame.data) {
        ASSERT_EQ(receiver.on_data(frame.header, *frame.data, now), Verdict::kAccepted);
      } else {
        receiver.on_probe(frame.header, *frame.probe, now);
      }
      receiver.on_released(align_down(receiver.received_end(), 4096));
    }
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (!streams[i]->receiver.ack_due(now)) continue;
      Answer answer{now + delay_, i, {}};
      streams[i]->receiver.fill_ack(answer.ack, now);
      answer.ack.durable_end = answer.ack.received_end;
      answers_.push_back(answer);
    }
    for (; !answers_.empty() && answers_.front().arrives <= now; answers_.pop_front())
      (void)streams[answers_.front().stream]->sender.on_ack(answers_.front().ack, now);
  }

  double rate_;
  Duration delay_;
  Instant busy_until_{};
  std::size_t turn_ = 0;
  std::deque<Frame> flying_;
  std::deque<Answer> answers_;
};

TEST(RateControl, SharesABottleneckFairlyAndFillsItWhoeverComesFirst) {
  for (const double rate : {20e6, 100e6})
    for (const Duration delay : {microseconds(50), milliseconds(1), milliseconds(5)}) {
      Bottleneck link(rate, delay);
      link.add({.shared_link = true});
      link.run(seconds(1));
      link.add({.shared_link = true});
      link.run(seconds(2));
      const std::uint64_t before[] = {link.received(0), link.received(1)};
      link.run(seconds(4));
      const double first = static_cast<double>(link.received(0) - before[0]) / (4 * rate);
      const double second = static_cast<double>(link.received(1) - before[1]) / (4 * rate);
      EXPECT_GE(first + second, 0.8) << rate << " B/s, " << delay.ns << " ns";
      EXPECT_GE(std::min(first, second), 0.35 * (first + second))
          << rate << " B/s, " << delay.ns << " ns: " << first << " and " << second;
    }
}

TEST(RateControl, KeepsTheQueueShort) {
  Bottleneck alone(100e6, milliseconds(1)), without(100e6, milliseconds(1));
  alone.add({.shared_link = true});
  without.add({});
  alone.run(seconds(1));
  without.run(seconds(1));
  EXPECT_LT(alone.queue().ns, milliseconds(8).ns);
  EXPECT_GT(without.queue().ns, milliseconds(50).ns) << "otherwise the whole window stands in the queue";
}

TEST(RateControl, KeepsToACap) {
  Bottleneck link(1e9, microseconds(50));
  link.add({.rate_max = ByteCount{10'000'000}});
  link.run(seconds(2));
  EXPECT_LE(link.received(0), 20'000'000 + RateControl::kLeast + kFrameBytes);
  EXPECT_GE(link.received(0), 19'500'000 - kBatchBytes);
}

TEST(RateControl, SendsTheFirstBytesAfterSilenceAtOnce) {
  const Instant now{1'000'000'000};
  for (const RateLimits limits :
       {RateLimits{}, RateLimits{.shared_link = true}, RateLimits{.rate_max = ByteCount{1'000'000}},
        RateLimits{.shared_link = true, .rate_max = ByteCount{1'000'000}}}) {
    RateControl control(limits);
    // Slow answers while little is under way say nothing of the link.
    for (int i = 1; i < 100; ++i)
      control.on_ack(ByteCount{200}, ByteCount{200}, microseconds(50 + 200 * (i % 20)), now + milliseconds(i));
    const Instant later = now + seconds(1);
    for (std::uint64_t sent = 0; sent < RateControl::kLeast; sent += 8192) {
      EXPECT_TRUE(control.allows(ByteCount{sent}, later));
      control.on_sent(ByteCount{8192}, later);
    }
  }
}

}  // namespace
}  // namespace slipstream::protocol
