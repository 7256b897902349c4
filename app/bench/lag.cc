#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <thread>

#include "app/bench/bench.h"
#include "app/bench/output.h"
#include "app/bench/sender.h"
#include "app/bench/two_sides.h"

namespace slipstream::app::bench {
namespace {

constexpr std::size_t kRecordHeaderBytes = 24;

struct Paced {
  double rate = 0;
  std::size_t bytes = 0;
  double achieved = 0;
  Lag lag;
};

Instant now() { return dataplane::monotonic_now(); }

// Records at the rate, one by one. A record's stamp is the moment at which it was due when the load is late because
// writing or announcing took too long (so what waited counts: no coordinated omission), and that before its write when
// only our own timer was late.
std::expected<void, Error> pace(LoadUpstream& upstream, GeneratedWal& wal, double for_seconds, Paced& out) {
  const Duration interval{static_cast<std::int64_t>(1e9 / out.rate)};
  const Instant begin = now(), end = begin + Duration{static_cast<std::int64_t>(for_seconds * 1e9)};
  std::uint64_t written = 0;
  Lsn last{};
  for (Instant due = begin; due < end; due = due + interval) {
    if (const Duration early = due - now(); early > Duration{}) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(early.ns));
      due = std::max(due, now());
    }
    const auto range = wal.write(out.bytes - kRecordHeaderBytes);
    if (!range) return std::unexpected(range.error());
    upstream.expect(range->end, due, out.lag);
    for (const node::UpstreamChunk& chunk : wal.chunks()) upstream.announce(chunk);
    last = range->end;
    if (++written % 1024 == 0)
      wal.remove_before(
          Lsn{upstream.durable_end().value - std::min(upstream.durable_end().value, std::uint64_t{64} << 20)});
  }
  out.achieved = static_cast<double>(written) * 1e9 / static_cast<double>((now() - begin).ns);
  return wait_durable(upstream, last);
}

// What the disk itself takes for a durable write of 4 KiB into a preallocated file.
double disk_sync_us(const std::filesystem::path& directory) {
  constexpr std::size_t kBlock = 4096, kBlocks = 256;
  const std::string path = directory / "sync";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* block = std::aligned_alloc(kBlock, kBlock);
  std::memset(block, 0x5a, kBlock);
  iovec piece{block, kBlock};
  for (std::size_t i = 0; i < kBlocks; ++i) pwrite(fd, block, kBlock, static_cast<off_t>(i * kBlock));
  fsync(fd);
  std::vector<double> times;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    const Instant begin = now();
    pwritev2(fd, &piece, 1, static_cast<off_t>(i * kBlock), RWF_DSYNC);
    times.push_back(static_cast<double>((now() - begin).ns) / 1e3);
  }
  std::free(block);
  ::close(fd);
  ::unlink(path.c_str());
  return median(times);
}

double us(Duration d) { return static_cast<double>(d.ns) / 1e3; }

Json quantiles(const Histogram& of) {
  return {{"p50", us(of.quantile(0.5))},
          {"p99", us(of.quantile(0.99))},
          {"p99.9", us(of.quantile(0.999))},
          {"max", us(of.max())}};
}

Json results_json(const std::deque<Paced>& loads, bool repairs) {
  Json out = Json::array();
  for (const Paced& each : loads) {
    out.push_back({{"rate", each.rate},
                   {"record_bytes", each.bytes},
                   {"achieved_rate", each.achieved},
                   {"received_us", quantiles(each.lag.received)},
                   {"durable_us", quantiles(each.lag.durable)}});
    if (!repairs) continue;
    out.back()["repaired"] = each.lag.repaired.count();
    out.back()["repaired_us"] = quantiles(each.lag.repaired);
  }
  return out;
}

Json goals_of(const Json& out) {
  double received = 0, durable = 0;  // The best of the loads: they are about the way, not about a load.
  for (const Json& each : out["results"]) {
    const double r = each["received_us"]["p50"], d = each["durable_us"]["p50"];
    if (received == 0 || r < received) received = r;
    if (durable == 0 || d < durable) durable = d;
  }
  Json goals = Json::array();
  if (out["configuration"]["idle"] == "spin")
    goals.push_back(goal_json({"received p50 in us, spinning, best load", 5, 0, received}));
  const double disk = out["configuration"]["disk_sync_us"];
  if (disk > 0)
    goals.push_back(goal_json({"durable p50 in us, best load: the disk's own sync + 10", disk + 10, 0, durable}));
  return goals;
}

std::expected<Json, Error> send(const LagArguments& arguments) {
  const auto config = load_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  if (config->role != Role::kPrimary)
    return std::unexpected(Error{ExitCode::kConfiguration, "a replica's configuration receives; a primary's sends",
                                 arguments.config, "slipstream bench receive -c FILE on that side"});
  const auto scratch = ScratchDirectory::make(arguments.directory);
  if (!scratch) return std::unexpected(scratch.error());
  std::deque<Paced> loads;
  const auto load = [&](LoadUpstream& upstream, GeneratedWal& wal) -> std::expected<void, Error> {
    prctl(PR_SET_TIMERSLACK, 1);
    if (auto met = meet_receiver(upstream, wal); !met) return met;
    for (const std::size_t bytes : arguments.sizes)
      for (const double rate : arguments.rates) {
        loads.push_back({rate, std::max(bytes, kRecordHeaderBytes), 0, {}});
        if (auto done = pace(upstream, wal, arguments.seconds, loads.back()); !done) return done;
      }
    return {};
  };
  const bool repairs = arguments.loss > 0;
  if (auto done = run_sender(*config, scratch->path(), load, repairs); !done) return std::unexpected(done.error());
  return Json{{"idle", config->runtime.idle}, {"results", results_json(loads, repairs)}};
}

}  // namespace

std::expected<Json, Error> lag(const LagArguments& arguments) {
  Json sent, out{{"benchmark", "lag"}, {"machine", machine()}};
  if (arguments.config.empty()) {
    TwoSides sides;
    sides.security = arguments.security;
    sides.loss = arguments.loss;
    sides.device = arguments.device, sides.idle = arguments.idle, sides.directory = arguments.directory;
    sides.sender = {"lag",         "--json",
                    "--directory", arguments.directory,
                    "--seconds",   std::to_string(arguments.seconds),
                    "--loss",      std::to_string(arguments.loss)};
    const auto add = [&](const char* option, const auto& values) {
      sides.sender.push_back(option);
      for (const auto& each : values) sides.sender.push_back(fmt::format("{}", each));
    };
    add("--rate", arguments.rates), add("--size", arguments.sizes);
    auto said = run_two_sides(sides);
    if (!said) return std::unexpected(said.error());
    sent = std::move(said->sender);
    const double disk = disk_sync_us(arguments.directory);
    out["configuration"] = {{"device", arguments.device},
                            {"security", arguments.security},
                            {"idle", sent["configuration"]["idle"]},
                            {"mtu", sides.mtu},
                            {"loss", sides.loss},
                            {"log", arguments.directory},
                            {"disk_sync_us", disk}};
    out["results"] = sent["results"];
  } else {
    auto done = send(arguments);
    if (!done) return std::unexpected(done.error());
    out["configuration"] = {{"file", arguments.config}, {"idle", (*done)["idle"]}, {"disk_sync_us", 0}};
    out["results"] = (*done)["results"];
  }
  out["goals"] = goals_of(out);
  return out;
}

}  // namespace slipstream::app::bench
