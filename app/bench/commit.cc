#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <thread>

#include "app/bench/bench.h"
#include "app/bench/output.h"
#include "base/histogram.h"
#include "dataplane/idle.h"
#include "postgres/sql_session.h"

namespace slipstream::app::bench {
namespace {

constexpr const char* kTable = "public.slipstream_bench_commit";

struct Side {
  std::string name;
  std::string conninfo;
  std::string level;
  std::vector<double> tps, p50, p99;
};

using Session = std::expected<postgres::SqlSession, Error>;

std::expected<void, Error> command(postgres::SqlSession& session, const std::string& sql) {
  const auto done = session.query(sql);
  if (!done) return std::unexpected(done.error());
  return {};
}

// One client: rows one by one, a transaction each, until `until`. A first stretch is not counted.
std::expected<void, Error> insert_until(Session session, const std::string& level, Instant counted_from, Instant until,
                                        Histogram& out) {
  if (!session) return std::unexpected(session.error());
  if (auto set = command(*session, "SET synchronous_commit = " + level); !set) return set;
  const std::string insert = fmt::format("INSERT INTO {} (filler) VALUES (repeat('x', 100)) RETURNING 1", kTable);
  for (Instant before = dataplane::monotonic_now(); before < until;) {
    if (auto done = command(*session, insert); !done) return done;
    const Instant after = dataplane::monotonic_now();
    if (before >= counted_from) out.add(after - before);
    before = after;
  }
  return {};
}

std::expected<void, Error> measure(Side& side, unsigned clients, double for_seconds) {
  std::vector<Histogram> histograms(clients);
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::optional<Error> problem;
  std::vector<Session> sessions;
  for (unsigned i = 0; i < clients; ++i)
    sessions.push_back(postgres::SqlSession::connect(side.conninfo, "slipstream_bench"));
  const Instant begin = dataplane::monotonic_now() + Duration{static_cast<std::int64_t>(for_seconds * 1e8)};
  const Instant until = begin + Duration{static_cast<std::int64_t>(for_seconds * 1e9)};
  for (unsigned i = 0; i < clients; ++i)
    threads.emplace_back([&, i] {
      if (auto done = insert_until(std::move(sessions[i]), side.level, begin, until, histograms[i]); !done) {
        const std::lock_guard hold(mutex);
        problem = done.error();
      }
    });
  for (std::thread& each : threads) each.join();
  if (problem) return std::unexpected(*problem);
  Histogram all;
  for (const Histogram& each : histograms) all.merge(each);
  side.tps.push_back(static_cast<double>(all.count()) / for_seconds);
  side.p50.push_back(static_cast<double>(all.quantile(0.5).ns) / 1e3);
  side.p99.push_back(static_cast<double>(all.quantile(0.99).ns) / 1e3);
  return {};
}

std::vector<double> ratios(const std::vector<double>& of, const std::vector<double>& to) {
  std::vector<double> out;
  for (std::size_t i = 0; i < of.size(); ++i) out.push_back(to[i] > 0 ? of[i] / to[i] : 0);
  return out;
}

// The table is there while we run, and nothing else of ours.
std::expected<void, Error> on_each_server(const CommitArguments& arguments, const std::string& sql) {
  for (const std::string& conninfo : {arguments.primary, arguments.beside}) {
    if (conninfo.empty()) continue;
    auto session = postgres::SqlSession::connect(conninfo, "slipstream_bench");
    if (!session) return std::unexpected(session.error());
    // Whether replicas answer is not this table's matter.
    if (auto set = command(*session, "SET synchronous_commit = local"); !set) return set;
    if (auto done = command(*session, sql); !done) return done;
  }
  return {};
}

Json row(unsigned clients, const Side& side, const Side* beside, const Side& local) {
  Json out{{"clients", clients},
           {"level", side.level},
           {"server", side.name},
           {"tps", median(side.tps)},
           {"p50_us", median(side.p50)},
           {"p99_us", median(side.p99)},
           {"p50_to_first_level", median(ratios(side.p50, local.p50))}};
  if (beside) {
    out["p50_to_beside"] = median(ratios(side.p50, beside->p50));
    out["p99_to_beside"] = median(ratios(side.p99, beside->p99));
    out["tps_to_beside"] = median(ratios(side.tps, beside->tps));
  }
  return out;
}

std::expected<void, Error> compare(const CommitArguments& arguments, unsigned clients, Json& out) {
  std::vector<Side> ours, theirs;
  for (const std::string& level : arguments.levels) {
    ours.push_back({"primary", arguments.primary, level, {}, {}, {}});
    if (!arguments.beside.empty()) theirs.push_back({"beside", arguments.beside, level, {}, {}, {}});
  }
  for (unsigned round = 0; round < arguments.rounds; ++round)
    for (std::size_t i = 0; i < ours.size(); ++i) {
      if (auto done = measure(ours[i], clients, arguments.seconds); !done) return done;
      if (theirs.empty()) continue;
      if (auto done = measure(theirs[i], clients, arguments.seconds); !done) return done;
    }
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (!theirs.empty()) out["results"].push_back(row(clients, theirs[i], nullptr, theirs[0]));
    const Side* beside = theirs.empty() ? nullptr : &theirs[i];
    out["results"].push_back(row(clients, ours[i], beside, ours[0]));
    if (beside && ours[i].level != "local" && ours[i].level != "off")
      out["goals"].push_back(
          goal_json({fmt::format("p50 to that beside, {} clients, {}", clients, ours[i].level), clients == 4 ? 0.7 : 1,
                     1, median(ratios(ours[i].p50, beside->p50)), true, arguments.rounds}));
  }
  return {};
}

}  // namespace

std::expected<Json, Error> commit(const CommitArguments& arguments) {
  Json out{{"benchmark", "commit"}, {"machine", machine()}};
  out["configuration"] = {
      {"rounds", arguments.rounds}, {"seconds", arguments.seconds}, {"beside", !arguments.beside.empty()}};
  out["results"] = Json::array(), out["goals"] = Json::array();
  const std::string drop = fmt::format("DROP TABLE IF EXISTS {}", kTable);
  if (auto made = on_each_server(
          arguments, fmt::format("{}; CREATE TABLE {} (id bigserial PRIMARY KEY, filler text)", drop, kTable));
      !made)
    return std::unexpected(made.error());
  std::expected<void, Error> done;
  for (const unsigned clients : arguments.clients)
    if (done) done = compare(arguments, clients, out);
  const auto dropped = on_each_server(arguments, drop);
  if (!done) return std::unexpected(done.error());
  if (!dropped) return std::unexpected(dropped.error());
  return out;
}

}  // namespace slipstream::app::bench
