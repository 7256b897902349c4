#include <array>
#include <cstdio>
#include <thread>

#include "app/bench/bench.h"
#include "app/network.h"
#include "dataplane/idle.h"

namespace slipstream::app::bench {
namespace {

constexpr std::size_t kHeadBytes = 64;  // About as long as a data frame's.
constexpr std::size_t kBurst = 32;

}  // namespace

std::expected<void, Error> receive_raw(const Config& config, const std::atomic<bool>& stop) {
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  std::array<std::span<const std::byte>, kBurst> frames;
  std::uint64_t bytes = 0, count = 0;
  Instant first{}, last{};
  while (!stop.load(std::memory_order_relaxed)) {
    const std::size_t got = network->port().receive(frames);
    if (got == 0) continue;
    last = dataplane::monotonic_now();
    if (first == Instant{}) first = last;
    for (std::size_t i = 0; i < got; ++i) bytes += frames[i].size();
    count += got;
  }
  const double took = static_cast<double>((last - first).ns) / 1e9;
  std::printf("%s\n", Json{{"bytes", bytes}, {"frames", count}, {"seconds", took}}.dump().c_str());
  return {};
}

std::expected<void, Error> send_raw(const Config& config, double for_seconds) {
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  node::Port& port = network->port();
  const NodeId peer = config.replicas().front()->number;
  const std::vector<std::byte> payload(port.frame_bytes_max(peer) - kHeadBytes, std::byte{0x5a});
  node::OutFrame frame;
  frame.head_bytes = kHeadBytes, frame.payload = payload;
  std::array<std::span<const std::byte>, kBurst> ignored;
  const Instant patient_until = dataplane::monotonic_now() + seconds(20);
  while (port.room(peer) == 0) {
    port.receive(ignored);  // Makes the link come up.
    if (dataplane::monotonic_now() > patient_until)
      return std::unexpected(Error{ExitCode::kPort, "the link stayed down for 20 s", config.path,
                                   "run `slipstream bench receive --sink raw -c FILE` on the other side"});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const Instant until = dataplane::monotonic_now() + Duration{static_cast<std::int64_t>(for_seconds * 1e9)};
  while (dataplane::monotonic_now() < until) {
    for (std::size_t room = std::min(port.room(peer), kBurst); room > 0; --room) port.send(peer, frame);
    port.flush();
    port.receive(ignored);
  }
  return {};
}

}  // namespace slipstream::app::bench
