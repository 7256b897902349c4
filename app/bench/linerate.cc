#include <fmt/format.h>
#include <sys/statvfs.h>

#include <thread>

#include "app/bench/bench.h"
#include "app/bench/output.h"
#include "app/bench/sender.h"
#include "app/bench/two_sides.h"

namespace slipstream::app::bench {
namespace {

constexpr const char* kMemoryDirectory = "/dev/shm";
constexpr std::size_t kPayloadBytes = 8192 - 24;
constexpr double kRawSeconds = 1;

double seconds_of(Duration d) { return static_cast<double>(d.ns) / 1e9; }

// All of the WAL is written, so it is in the page cache, before the clock starts; then it is announced as fast as it
// becomes durable there.
std::expected<Json, Error> send(const LinerateArguments& arguments) {
  const auto config = load_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  if (config->role != Role::kPrimary)
    return std::unexpected(Error{ExitCode::kConfiguration, "a replica's configuration receives; a primary's sends",
                                 arguments.config, "slipstream bench receive -c FILE on that side"});
  if (arguments.sink == "raw") {
    if (auto sent = send_raw(*config, kRawSeconds); !sent) return std::unexpected(sent.error());
    return Json::object();
  }
  if (arguments.sink == "tcp") {
    if (auto sent = send_tcp(*config, kRawSeconds); !sent) return std::unexpected(sent.error());
    return Json::object();
  }
  const auto scratch = ScratchDirectory::make(arguments.directory);
  if (!scratch) return std::unexpected(scratch.error());
  Json out;
  const auto load = [&](LoadUpstream& upstream, GeneratedWal& wal) -> std::expected<void, Error> {
    if (auto met = meet_receiver(upstream, wal); !met) return met;
    const Lsn begin = wal.end();
    std::vector<node::UpstreamChunk> chunks;
    while ((wal.end() - begin).value < std::uint64_t{arguments.megabytes} << 20) {
      if (auto written = wal.write(kPayloadBytes); !written) return std::unexpected(written.error());
      chunks.insert(chunks.end(), wal.chunks().begin(), wal.chunks().end());
    }
    Lag lag;
    const Instant started = dataplane::monotonic_now();
    upstream.expect(wal.end(), started, lag);
    for (const node::UpstreamChunk& chunk : chunks) {
      // Within what the node keeps in memory: beyond that it would be a catch-up, which reads once more.
      const std::uint64_t ahead = config->runtime.ring.value / 2;
      if (chunk.range.end.value > begin.value + ahead)
        if (auto some = wait_durable(upstream, Lsn{chunk.range.end.value - ahead}); !some) return some;
      upstream.announce(chunk);
    }
    if (auto all = wait_durable(upstream, wal.end()); !all) return all;
    const double bytes = static_cast<double>((wal.end() - begin).value);
    out = {{"bytes", bytes},
           {"seconds", seconds_of(lag.durable.max())},
           {"gb_per_s", bytes / 1e9 / seconds_of(lag.durable.max())}};
    return {};
  };
  if (auto done = run_sender(*config, scratch->path(), load); !done) return std::unexpected(done.error());
  return out;
}

struct Case {
  unsigned mtu = 0;
  std::string sink;  // discard, memory, disk, raw, tcp
  std::vector<double> gb_per_s;
  std::vector<double> of_raw;
};

std::expected<double, Error> run_case(const LinerateArguments& arguments, const Case& which) {
  TwoSides sides;
  sides.device = arguments.device, sides.mtu = which.mtu, sides.idle = arguments.idle,
  sides.security = arguments.security;
  sides.sink = which.sink == "memory" || which.sink == "disk" ? "log" : which.sink;
  sides.directory = which.sink == "memory" ? kMemoryDirectory : arguments.directory;
  sides.sender = {"linerate", "--json",   "--directory", arguments.directory,
                  "--sink",   which.sink, "--mb",        std::to_string(arguments.megabytes)};
  const auto said = run_two_sides(sides);
  if (!said) return std::unexpected(said.error());
  if (which.sink != "raw" && which.sink != "tcp") return said->sender["results"][0]["gb_per_s"].get<double>();
  return said->receiver["bytes"].get<double>() / 1e9 / said->receiver["seconds"].get<double>();
}

// Round by round each sink beside the raw device, in turn.
std::expected<std::vector<Case>, Error> run_mtu(const LinerateArguments& arguments, unsigned mtu) {
  std::vector<Case> cases{{mtu, "raw", {}, {}}};
  if (arguments.device == "kernel_udp") cases.push_back({mtu, "tcp", {}, {}});
  for (const std::string& sink : arguments.sinks) cases.push_back({mtu, sink, {}, {}});
  for (unsigned round = 0; round < arguments.rounds; ++round)
    for (Case& each : cases) {
      const auto gb_per_s = run_case(arguments, each);
      if (!gb_per_s) return std::unexpected(gb_per_s.error());
      each.gb_per_s.push_back(*gb_per_s);
      each.of_raw.push_back(*gb_per_s / cases.front().gb_per_s.back());
    }
  return cases;
}

}  // namespace

std::expected<Json, Error> linerate(const LinerateArguments& arguments) {
  Json out{{"benchmark", "linerate"}, {"machine", machine()}};
  out["goals"] = Json::array();
  if (!arguments.config.empty()) {
    auto sent = send(arguments);
    if (!sent) return std::unexpected(sent.error());
    (*sent)["sink"] = arguments.sink;
    out["configuration"] = {{"file", arguments.config}};
    out["results"] = Json::array({*sent});
    return out;
  }
  out["configuration"] = {{"device", arguments.device},       {"security", arguments.security},
                          {"idle", arguments.idle},           {"sealed", arguments.security == "sealed"},
                          {"megabytes", arguments.megabytes}, {"disk", arguments.directory}};
  out["results"] = Json::array();
  for (const unsigned mtu : arguments.mtus) {
    const auto cases = run_mtu(arguments, mtu);
    if (!cases) return std::unexpected(cases.error());
    for (const Case& each : *cases) {
      const double speed = median(each.gb_per_s), ratio = median(each.of_raw);
      out["results"].push_back({{"mtu", mtu},
                                {"sink", each.sink},
                                {"gb_per_s", speed},
                                {"of_raw", ratio},
                                {"packets_per_s", speed * 1e9 / mtu}});
      if (each.sink == "tcp")
        out["goals"].push_back(goal_json(
            {fmt::format("raw, of kernel TCP, {} B frames", mtu), 0.5, 0.5, 1 / ratio, false, arguments.rounds}));
      if (each.sink == "memory" && mtu >= 8000 && arguments.device == "memif")
        out["goals"].push_back(goal_json({fmt::format("of raw, to memory, {} B frames (not sealed)", mtu), 0.5, 0.27,
                                          ratio, false, arguments.rounds}));
    }
  }
  return out;
}

}  // namespace slipstream::app::bench
