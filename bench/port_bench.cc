#include <benchmark/benchmark.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/dpdk_port.h"
#include "dataplane/eal.h"

// What a burst of frames to two peers costs over memif, both ends in this thread: their common payload copied into
// every packet, or once into a buffer that all share (SharedPayloads).
namespace slipstream::dataplane {
namespace {

constexpr std::size_t kHeadBytes = 64, kBurst = 32;
constexpr std::array<NodeId, 2> kPeers{NodeId{2}, NodeId{3}};

std::string vdev(int number, const char* role, int link) {
  return "net_memif" + std::to_string(number) + ",role=" + role + ",socket-abstract=yes,socket=slipstream-bench-" +
         std::to_string(::getpid()) + "-" + std::to_string(link) + ",bsize=9216,mac=02:00:00:00:00:0" +
         std::to_string(number);
}

// Two links; we send at their even ends and receive at their odd ones.
std::unique_ptr<DpdkPort> open_links() {
  EalOptions eal;
  eal.file_prefix = "slipstream-bench-" + std::to_string(::getpid());
  eal.memory_mb = 512;
  std::vector<DeviceConfig> devices;
  std::vector<PeerConfig> peers;
  for (int i = 0; i < 4; ++i) {
    eal.vdevs.push_back(vdev(i, i % 2 == 0 ? "server" : "client", i / 2));
    DeviceConfig& device = devices.emplace_back();
    device.name = device.device = "net_memif" + std::to_string(i);
    device.address = "10.77." + std::to_string(i / 2) + "." + std::to_string(1 + i % 2);
    device.mtu = 9000, device.chained_min = 0, device.may_sleep = false;
    if (i % 2 == 1)
      peers.push_back({kPeers[static_cast<std::size_t>(i / 2)], device.address, 7650,
                       "02:00:00:00:00:0" + std::to_string(i), devices[devices.size() - 2].name});
  }
  const auto started = start_eal(eal);
  if (!started) return std::fprintf(stderr, "%s\n", started.error().message().c_str()), nullptr;
  auto port = DpdkPort::open(devices, peers);
  if (!port) return std::fprintf(stderr, "%s\n", port.error().message().c_str()), nullptr;
  return std::move(*port);
}

void send_to_both(benchmark::State& state) {
  static const std::unique_ptr<DpdkPort> port = open_links();
  if (!port) return state.SkipWithError("no ports");
  std::array<protocol::Arrival, 64> frames;
  while (port->room(kPeers[0]) == 0 || port->room(kPeers[1]) == 0) port->receive(frames);

  const bool shares = state.range(0) != 0;
  const auto bytes = static_cast<std::size_t>(state.range(1));
  const std::vector<std::byte> text(kBurst * bytes, std::byte{0x5a});
  node::OutFrame frame;
  frame.head_bytes = kHeadBytes;
  std::uint64_t number = 0;
  for (auto _ : state) {
    for (const NodeId peer : kPeers)
      for (std::size_t i = 0; i < kBurst; ++i) {
        frame.payload = std::span(text).subspan(i * bytes, bytes);
        frame.shared_payload = shares ? number + i + 1 : 0;
        port->send(peer, frame);
      }
    number += kBurst;
    for (std::size_t got = 0; got < kBurst * kPeers.size(); got += port->receive(frames)) port->flush();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBurst * kPeers.size()));
}
BENCHMARK(send_to_both)->ArgNames({"shared", "bytes"})->ArgsProduct({{0, 1}, {256, 1336, 4096, 8700}});

}  // namespace
}  // namespace slipstream::dataplane
