#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "base/digest.h"
#include "protocol/frame.h"
#include "protocol/receiver.h"
#include "protocol/sender.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kPayloadBytes = 1336;
constexpr Lsn kBegin{kBatchBoundary};

FrameHeader header_at(Lsn position) {
  FrameHeader header;
  header.kind = FrameKind::kData;
  header.position = position;
  header.sent_at = 1;
  return header;
}

std::vector<std::byte> data_frame(const Batch& batch, Lsn position, std::span<const std::byte> payload) {
  std::vector<std::byte> out(kDataHeaderBytes);
  encode_data_head(header_at(position), batch, payload.size(), out);
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

void decode_data_frame(benchmark::State& state) {
  const std::vector<std::byte> payload(kPayloadBytes);
  const auto bytes = data_frame({{kBegin, kBegin + ByteCount{kPayloadBytes}}, 0}, kBegin, payload);
  Frame frame;
  for (auto _ : state) benchmark::DoNotOptimize(decode(bytes, frame));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(decode_data_frame);

void encode_head(benchmark::State& state) {
  std::array<std::byte, kDataHeaderBytes> head;
  const Batch batch{{kBegin, kBegin + ByteCount{kPayloadBytes}}, 0};
  for (auto _ : state) benchmark::DoNotOptimize(encode_data_head(header_at(kBegin), batch, kPayloadBytes, head));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(encode_head);

void encode_and_decode_ack(benchmark::State& state) {
  Ack ack;
  ack.received_end = ack.durable_end = kBegin;
  ack.window_end = kBegin + ByteCount{1 << 20};
  for (ack.missing_count = 0; ack.missing_count < static_cast<std::size_t>(state.range(0)); ++ack.missing_count)
    ack.missing[ack.missing_count] = {kBegin + ByteCount{1000 * ack.missing_count},
                                      kBegin + ByteCount{1000 * ack.missing_count + 500}};
  std::array<std::byte, kControlBytesMax> bytes;
  Frame frame;
  for (auto _ : state) {
    const std::size_t size = encode({}, ack, bytes);
    benchmark::DoNotOptimize(decode(std::span(bytes).first(size), frame));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(encode_and_decode_ack)->Arg(0)->Arg(kMissingMax);

// A stream of batches through the receiver, its digests included; `range(0)`: bytes a batch.
void receiver_on_data(benchmark::State& state) {
  const auto batch_bytes = static_cast<std::size_t>(state.range(0));
  constexpr std::size_t kRingBytes = 16u << 20;
  std::vector<std::byte> ring(kRingBytes);
  const std::vector<std::byte> content(batch_bytes, std::byte{7});
  const std::uint64_t digest = xxh3_64(content);
  Instant now{1'000'000'000};
  Receiver receiver(ring, kBegin, kBegin, now);
  Lsn at = kBegin;
  for (auto _ : state) {
    const Batch batch{{at, at + ByteCount{batch_bytes}}, digest};
    for (Lsn from = at; from < batch.range.end;) {
      const std::size_t bytes = std::min<std::size_t>(kPayloadBytes, (batch.range.end - from).value);
      const auto payload = std::span(content).subspan((from - at).value, bytes);
      benchmark::DoNotOptimize(receiver.on_data(header_at(from), {batch, payload}, now));
      from = from + ByteCount{bytes};
    }
    at = batch.range.end;
    now = now + microseconds(1);
    receiver.on_released(align_down(receiver.received_end(), 4096));
  }
  if (receiver.received_end() != at) state.SkipWithError("not everything arrived");
  state.SetBytesProcessed(static_cast<std::int64_t>(batch_bytes) * state.iterations());
}
BENCHMARK(receiver_on_data)->Arg(512)->Arg(8192)->Arg(kBatchBytesMax);

// Offering, cutting and acknowledging; `range(0)`: bytes a batch.
void sender_pieces(benchmark::State& state) {
  const auto batch_bytes = static_cast<std::size_t>(state.range(0));
  Instant now{1'000'000'000};
  Sender sender(kBegin, Lsn{~std::uint64_t{0}}, milliseconds(50), now);
  std::int64_t pieces = 0;
  Ack ack;
  for (auto _ : state) {
    const Lsn begin = sender.offered_end();
    sender.offer({{begin, begin + ByteCount{batch_bytes}}, 0});
    for (; const auto piece = sender.peek_piece(kPayloadBytes, now); ++pieces) sender.pop_piece(*piece, now);
    now = now + microseconds(1);
    ack.received_end = ack.durable_end = sender.sent_end();
    benchmark::DoNotOptimize(sender.on_ack(ack, now));
  }
  state.SetItemsProcessed(pieces);
}
BENCHMARK(sender_pieces)->Arg(512)->Arg(8192)->Arg(kBatchBytesMax);

}  // namespace
}  // namespace slipstream::protocol
