#include "tests/protocol/link.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/digest.h"

namespace slipstream::protocol {
namespace {

constexpr int kBurst = 32;

// One ring for all links of the process: allocating it anew for each of thousands would be most of their time.
std::span<std::byte> ring() {
  static Bytes memory(Link::kRingBytes);
  return memory;
}

const Bytes& noise() {
  static const Bytes bytes = [] {
    Bytes out(16u << 20);
    std::mt19937_64 random(42);
    for (std::size_t i = 0; i < out.size(); i += 8) {
      const Bytes eight = number(random(), 8);
      std::ranges::copy(eight, out.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return out;
  }();
  return bytes;
}

}  // namespace

Link::Link(std::size_t stream_bytes, std::uint64_t seed, Conditions conditions)
    : end(kBegin + ByteCount{stream_bytes}),
      sender(kBegin, kBegin + ByteCount{kRingBytes}, milliseconds(50), now),
      receiver(ring(), kBegin, kBegin, now),
      random_(seed),
      conditions_(conditions) {
  told_window_ = receiver.window_end();
}

std::span<const std::byte> Link::content(LsnRange range) const {
  return std::span(noise()).subspan((range.begin - kBegin).value, range.size().value);
}

bool Link::run(Duration limit) {
  const Instant until = now + limit;
  while (!done() && now < until && !testing::Test::HasFailure()) turn();
  return done();
}

void Link::turn() {
  deliver();
  release();
  send_all();
  now = std::max(now + microseconds(5), next_event());
}

Instant Link::next_event() const {
  if (sender.peek_piece(payload_bytes_max_, now) || receiver.ack_due(now)) return now;
  Instant next = std::min(sender.deadline(), receiver.deadline());
  if (!flying_.empty()) next = std::min(next, flying_.begin()->first);
  if (!stable_.empty()) next = std::min(next, stable_.begin()->first);
  return next;
}

void Link::send_all() {
  while (sender.wants_batch() && sender.offered_end() < end) {
    const Lsn begin = sender.offered_end();
    const Lsn boundary{align_down(begin, kBatchBoundary).value + kBatchBoundary};
    const std::size_t bytes = batch_bytes_min_ + random_() % (batch_bytes_max_ - batch_bytes_min_ + 1);
    const Lsn batch_end = std::min({end, boundary, begin + ByteCount{bytes}});
    sender.offer({{begin, batch_end}, xxh3_64(content({begin, batch_end}))});
  }
  sender.on_news(sender.offered_end(), sender.offered_end(), {}, now);
  FrameHeader header;
  header.flushed_end = header.confirmed_end = sender.offered_end();
  header.sent_at = static_cast<std::uint64_t>(now.ns);
  for (int i = 0; i < kBurst; ++i) {
    const auto piece = sender.peek_piece(payload_bytes_max_, now);
    if (!piece) break;
    EXPECT_LE(piece->range.end, receiver.window_end());
    header.packet_number = ++packet_number_;
    header.position = piece->range.begin;
    transmit(true, encoded({"", header, Data{piece->batch, content(piece->range)}}));
    sender.pop_piece(*piece, now);
    ++traffic.data_frames;
  }
  if (sender.probe_due(now)) {
    header.position = {};
    transmit(true, encoded({"", header, Probe{sender.probe_end(now), true}}));
    sender.on_probe_sent(now);
    ++traffic.probes;
  }
  const bool window_opened = (receiver.window_end() - told_window_).value >= kRingBytes / 4;
  if (!receiver.ack_due(now) && !window_opened) return;
  Ack ack;
  receiver.fill_ack(ack, now);
  ack.durable_end = receiver.received_end();
  told_window_ = ack.window_end;
  FrameHeader back;
  back.sent_at = static_cast<std::uint64_t>(now.ns);
  transmit(false, encoded({"", back, ack}));
  ++traffic.acks;
  traffic.asking_acks += ack.missing_count > 0;
}

void Link::transmit(bool to_receiver, Bytes frame) {
  const auto kind = static_cast<FrameKind>(frame[3]);
  const bool data = kind == FrameKind::kData;
  const bool dropped = drop && drop(traffic.frames, kind);
  ++traffic.frames;
  if (dropped || chance(conditions_.loss)) {
    if (data) traffic.lost_bytes += frame.size() - kDataHeaderBytes;
    return;
  }
  for (int copies = chance(conditions_.duplicate) ? 2 : 1; copies > 0; --copies) {
    Bytes copy = frame;
    if (data && chance(conditions_.corrupt)) {
      const std::size_t at = kDataHeaderBytes + random_() % (copy.size() - kDataHeaderBytes);
      copy[at] ^= static_cast<std::byte>(1u << random_() % 8);
    }
    const auto late = static_cast<std::uint64_t>(conditions_.late.ns);
    const Duration extra{chance(conditions_.overtaken) ? static_cast<std::int64_t>(random_() % late) : 0};
    flying_.emplace(now + conditions_.delay + extra, Datagram{to_receiver, std::move(copy)});
  }
}

void Link::deliver() {
  while (!flying_.empty() && flying_.begin()->first <= now) {
    const Datagram datagram = std::move(flying_.begin()->second);
    flying_.erase(flying_.begin());
    Frame frame;
    ASSERT_EQ(decode(datagram.bytes, frame), Verdict::kAccepted);
    if (datagram.to_receiver) {
      at_receiver(frame);
    } else {
      const Lsn before = sender.received_end();
      const Verdict verdict = sender.on_ack(std::get<Ack>(frame.body), now);
      EXPECT_TRUE(verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate) << to_string(verdict);
      EXPECT_LE(before, sender.received_end());
    }
  }
}

void Link::at_receiver(const Frame& frame) {
  if (const auto* probe = std::get_if<Probe>(&frame.body)) return receiver.on_probe(frame.header, *probe, now);
  const Verdict verdict = receiver.on_data(frame.header, std::get<Data>(frame.body), now);
  EXPECT_TRUE(verdict == Verdict::kAccepted || verdict == Verdict::kDuplicate || verdict == Verdict::kChecksum)
      << to_string(verdict);
  const Lsn received_end = receiver.received_end();
  ASSERT_LE(compared_end_, received_end) << "received_end fell";
  for (Lsn at = compared_end_; at < received_end;) {
    const Lsn piece_end = std::min(received_end, Lsn{align_down(at, kRingBytes).value + kRingBytes});
    const auto held = ring().subspan(at.value % kRingBytes, (piece_end - at).value);
    ASSERT_TRUE(std::ranges::equal(held, content({at, piece_end})))
        << "bytes differ in " << to_string(LsnRange{at, piece_end});
    at = piece_end;
  }
  if (received_end > compared_end_) stable_.emplace(now + release_delay_, received_end);
  compared_end_ = received_end;
}

void Link::release() {
  for (; !stable_.empty() && stable_.begin()->first <= now; stable_.erase(stable_.begin()))
    receiver.on_released(align_down(stable_.begin()->second, 4096));
}

}  // namespace slipstream::protocol
