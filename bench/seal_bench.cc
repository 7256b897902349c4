#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "node/shared_sealing.h"
#include "protocol/sealed_frame.h"
#include "seal/aead.h"

// What sealing adds to a frame's way into a packet and out of one, beside AES-GCM alone over the same bytes.
namespace slipstream::protocol {
namespace {

constexpr std::size_t kPackets = 64;  // A burst's: all stay near.

struct Buffers {
  explicit Buffers(std::size_t payload_bytes)
      : head(kDataHeaderBytes), payload(kPackets * payload_bytes, std::byte{0x5a}), scratch(kFrameBytesMax) {
    FrameHeader header;
    header.position = Lsn{kBatchBoundary};
    encode_data_head(header, {{header.position, header.position + ByteCount{payload_bytes}}, 7}, payload_bytes, head);
    packets.assign(kPackets, std::vector<std::byte>(kDataHeaderBytes + payload_bytes));
  }
  std::span<const std::byte> source(std::size_t i) const {
    const std::size_t bytes = payload.size() / kPackets;
    return std::span(payload).subspan(i % kPackets * bytes, bytes);
  }
  std::vector<std::byte>& packet(std::size_t i) { return packets[i % kPackets]; }

  std::vector<std::byte> head, payload, scratch;
  std::vector<std::vector<std::byte>> packets;
};

void report(benchmark::State& state) { state.SetBytesProcessed(state.iterations() * state.range(0)); }

void send_plain(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  std::size_t i = 0;
  for (auto _ : state) {
    auto& packet = b.packet(++i);
    std::memcpy(packet.data(), b.head.data(), b.head.size());
    std::memcpy(packet.data() + b.head.size(), b.source(i).data(), b.source(i).size());
    benchmark::DoNotOptimize(packet.data());
    benchmark::ClobberMemory();
  }
  report(state);
}

void send_sealed(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  seal::Sealing sealing(seal::Secret(), 1);
  std::size_t i = 0;
  for (auto _ : state) {
    auto& packet = b.packet(++i);
    seal_frame(b.head, b.source(i), sealing, packet);
    benchmark::DoNotOptimize(packet.data());
    benchmark::ClobberMemory();
  }
  report(state);
}

std::vector<seal::Sealing> sealings_for(std::int64_t replicas) {
  std::vector<seal::Sealing> out;
  for (std::int64_t i = 0; i < replicas; ++i) out.emplace_back(seal::Secret(), 1);
  return out;
}

// One frame to each of several replicas, its payload sealed for each.
void send_per_replica(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  std::vector<seal::Sealing> sealings = sealings_for(state.range(1));
  std::size_t i = 0, to = 0;
  for (auto _ : state) {
    ++i;
    for (seal::Sealing& sealing : sealings) {
      seal_frame(b.head, b.source(i), sealing, b.packet(++to));
      benchmark::ClobberMemory();
    }
  }
  report(state);
}

// The same, its payload sealed once for all.
void send_once_for_all(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  std::vector<seal::Sealing> sealings = sealings_for(state.range(1));
  node::SharedSealing shared([](std::span<std::byte>) {}, UINT64_MAX);
  for (auto& packet : b.packets) packet.resize(kGroupedHeadBytes + b.source(0).size());
  std::size_t i = 0, to = 0;
  for (auto _ : state) {
    ++i;
    for (seal::Sealing& sealing : sealings) {
      auto& packet = b.packet(++to);
      const auto piece = shared.seal(shared.key().id, b.source(i));
      const auto head = std::span(b.scratch).first(kGroupedHeadBytes);
      seal_grouped_head(b.head, piece->seal, sealing, head);
      std::memcpy(packet.data(), head.data(), head.size());
      std::memcpy(packet.data() + head.size(), piece->text.data(), piece->text.size());
      benchmark::ClobberMemory();
    }
    shared.end_burst();
  }
  report(state);
}

void receive_plain(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  std::size_t i = 0;
  for (auto _ : state) {
    auto& packet = b.packet(++i);
    std::memcpy(b.scratch.data(), packet.data(), packet.size());
    benchmark::DoNotOptimize(b.scratch.data());
    benchmark::ClobberMemory();
  }
  report(state);
}

// Each frame is opened once, so frames are sealed outside the time that counts.
void receive_sealed(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  seal::Sealing sealing(seal::Secret(), 1, UINT64_MAX);
  seal::Opening opening(seal::Secret(), 1);
  seal::GroupOpening group;
  for (auto _ : state) {
    state.PauseTiming();
    for (std::size_t i = 0; i < kPackets; ++i) seal_frame(b.head, b.source(i), sealing, b.packet(i));
    state.ResumeTiming();
    for (std::size_t i = 0; i < kPackets; ++i) {
      auto& packet = b.packet(i);
      Arrival arrival(packet);
      benchmark::DoNotOptimize(open_frame(arrival, opening, group));
      std::memcpy(b.scratch.data(), packet.data(), packet.size());
      benchmark::ClobberMemory();
    }
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<std::int64_t>(kPackets));
}

void aes_gcm_alone(benchmark::State& state) {
  Buffers b(static_cast<std::size_t>(state.range(0)));
  seal::Aead aead{seal::Secret()};
  seal::Nonce nonce{};
  std::size_t i = 0;
  for (auto _ : state) {
    nonce[0] = static_cast<std::byte>(++i);
    auto& packet = b.packet(i);
    benchmark::DoNotOptimize(aead.seal(nonce, {}, b.source(i), {}, std::span(packet).subspan(kDataHeaderBytes)));
    benchmark::ClobberMemory();
  }
  report(state);
}

BENCHMARK(aes_gcm_alone)->Arg(1336)->Arg(8700);
BENCHMARK(send_plain)->Arg(1336)->Arg(8700);
BENCHMARK(send_sealed)->Arg(1336)->Arg(8700);
BENCHMARK(send_per_replica)->ArgsProduct({{1336, 8700}, {1, 2, 3, 5}});
BENCHMARK(send_once_for_all)->ArgsProduct({{1336, 8700}, {1, 2, 3, 5}});
BENCHMARK(receive_plain)->Arg(1336)->Arg(8700);
BENCHMARK(receive_sealed)->Arg(1336)->Arg(8700);

}  // namespace
}  // namespace slipstream::protocol
