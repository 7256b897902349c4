#include "app/bench/sender.h"

#include <chrono>
#include <thread>
#include <utility>

#include "app/daemon.h"
#include "app/file_disk.h"
#include "app/memory.h"
#include "app/network.h"
#include "node/primary_node.h"
#include "node/step.h"

namespace slipstream::app::bench {
namespace {

constexpr std::size_t kCatchUpBytes = 2u << 20;
constexpr auto kPause = std::chrono::microseconds(50);
constexpr Duration kPatience = seconds(20);

node::State first_state() {
  node::State state;
  state.role = node::State::Role::kPrimary;
  state.identity = Identity{{random_u64(), random_u64()}};
  state.own_epoch = {1, 0};
  state.system = kSystem;
  return state;
}

}  // namespace

void LoadUpstream::push(node::UpstreamEvent event) {
  while (!events_.push(std::move(event))) {
    wake_();
    std::this_thread::sleep_for(kPause);
  }
}

void LoadUpstream::connect() {
  push(node::UpstreamConnected{kSystem, TimelineId{1}, kSegmentSize, 150000, kLogBegin, kLogBegin, ""});
  push(node::UpstreamSyncNames{true, "slipstream", kLogBegin});
  wake_();
}

void LoadUpstream::announce(const node::UpstreamChunk& chunk) {
  push(chunk);
  push(node::UpstreamFlushed{chunk.range.end});
  wake_();
}

void LoadUpstream::expect(Lsn end, Instant stamp, Lag& lag) {
  for (Awaited* each : {&of_received_, &of_durable_})
    while (!each->samples.push({end, stamp, &lag})) std::this_thread::sleep_for(kPause);
}

void LoadUpstream::report(const node::Report& report) {
  count(of_received_, report.write,
        [this](Lag& lag) -> Histogram& { return was_repaired() ? lag.repaired : lag.received; });
  count(of_durable_, report.flush, [](Lag& lag) -> Histogram& { return lag.durable; });
  received_.store(report.write.value, std::memory_order_release);
  durable_.store(report.flush.value, std::memory_order_release);
}

bool LoadUpstream::was_repaired() {
  if (!bytes_resent_) return false;
  const std::uint64_t resent = bytes_resent_();
  return std::exchange(resent_, resent) != resent;
}

void LoadUpstream::count(Awaited& awaited, Lsn end, const std::function<Histogram&(Lag&)>& which) {
  Instant now{};
  while (awaited.first.lag || awaited.samples.pop(awaited.first)) {
    if (awaited.first.end > end) return;
    if (now == Instant{}) now = dataplane::monotonic_now();
    which(*awaited.first.lag).add(now - awaited.first.stamp);
    awaited.first.lag = nullptr;
  }
}

std::expected<void, Error> run_sender(const Config& config, const std::filesystem::path& directory, const Load& load,
                                      bool tell_repairs) {
  const std::filesystem::path wal_directory = directory / "wal";
  std::filesystem::create_directories(wal_directory);
  GeneratedWal wal(wal_directory);
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::Waker waker;
  const auto wake = [&waker] { waker.notify(); };
  Memory ring(config.runtime.ring.value), catch_up(kCatchUpBytes);
  FileDisk disk({wal_directory, directory / "state", kSegmentSize, TimelineId{1}, "", false, kSystem, "", wake});
  const std::span<std::byte> regions[] = {ring.span(), catch_up.span()};
  disk.register_memory(regions);

  const NodeConfig* replica = config.replicas().front();
  node::PrimaryOptions options;
  options.id = config.self().number, options.name = config.name, options.policy = "\"" + replica->name + "\"";
  options.replicas.push_back({replica->number, replica->name});
  options.catch_up_rate = ByteCount{0};  // No commit is to be spared.
  options.random_seed = random_u64();
  node::PrimaryNode node(options, first_state(), ring.span(), catch_up.span(), dataplane::monotonic_now());
  LoadUpstream upstream(wake);
  if (tell_repairs)
    upstream.tell_repairs(
        [&node] { return node.snapshot(dataplane::monotonic_now()).primary.replicas.front().bytes_resent; });

  std::atomic<bool> stop{false};
  std::expected<void, Error> result;
  std::thread loader([&] {
    result = load(upstream, wal);
    stop = true;
    waker.notify();
  });
  network->run(
      config, &disk, waker, [&](Instant now) { return node::step(node, network->port(), disk, upstream, now); },
      [&] { return node.deadline(); }, stop);
  loader.join();
  return result;
}

std::expected<void, Error> meet_receiver(LoadUpstream& upstream, GeneratedWal& wal) {
  upstream.connect();
  const auto first = wal.write(64);
  if (!first) return std::unexpected(first.error());
  for (const node::UpstreamChunk& chunk : wal.chunks()) upstream.announce(chunk);
  return wait_durable(upstream, first->end);
}

std::expected<void, Error> wait_durable(const LoadUpstream& upstream, Lsn end) {
  Lsn seen = upstream.durable_end();
  Instant moved = dataplane::monotonic_now();
  while (seen < end) {
    std::this_thread::sleep_for(kPause);
    const Instant now = dataplane::monotonic_now();
    if (const Lsn is = upstream.durable_end(); is != seen) seen = is, moved = now;
    if (now - moved > kPatience)
      return std::unexpected(Error{
          ExitCode::kPort, "nothing was acknowledged for 20 s (" + to_string(seen) + " of " + to_string(end) + ")",
          "the receiver",
          "run `slipstream bench receive -c FILE` there, anew for each run here; then look at ports and addresses"});
  }
  return {};
}

}  // namespace slipstream::app::bench
