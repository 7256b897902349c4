#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>

#include "app/bench/output.h"
#include "app/commands.h"

namespace slipstream::app {
namespace {

using Rows = std::vector<std::vector<std::string>>;

void quiet_log() {
  spdlog::set_default_logger(spdlog::stderr_color_mt("slipstream"));
  spdlog::set_level(spdlog::level::err);
}

// Ctrl-C ends the processes that we wait for; then we tidy up.
void outlive_interrupts() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::string number(const Json& value) { return fmt::format("{:.0f}", value.get<double>()); }

std::string lag_table(const Json& out) {
  Rows rows{{"rate", "achieved", "bytes", "received p50", "p99", "p99.9", "durable p50", "p99", "p99.9"}};
  for (const Json& each : out["results"]) {
    rows.push_back({number(each["rate"]), number(each["achieved_rate"]), number(each["record_bytes"])});
    for (const char* stage : {"received_us", "durable_us"})
      for (const char* quantile : {"p50", "p99", "p99.9"}) rows.back().push_back(number(each[stage][quantile]));
    if (!each.contains("repaired")) continue;
    if (rows.size() == 2) rows[0].insert(rows[0].end(), {"sent again", "received p50", "p99", "max"});
    rows.back().push_back(number(each["repaired"]));
    for (const char* quantile : {"p50", "p99", "max"}) rows.back().push_back(number(each["repaired_us"][quantile]));
  }
  const Json& configuration = out["configuration"];
  return fmt::format("microseconds from a record's write to its acknowledgement at the primary; idle {}\n",
                     configuration["idle"].get<std::string>()) +
         bench::table(rows);
}

std::string linerate_table(const Json& out) {
  Rows rows{{"mtu", "sink", "GB/s", "of raw", "packets/s"}};
  for (const Json& each : out["results"])
    if (each.contains("mtu"))
      rows.push_back({number(each["mtu"]), each["sink"], fmt::format("{:.2f}", each["gb_per_s"].get<double>()),
                      fmt::format("{:.2f}", each["of_raw"].get<double>()), number(each["packets_per_s"])});
    else if (each.contains("gb_per_s"))
      rows.push_back({"", each["sink"], fmt::format("{:.2f}", each["gb_per_s"].get<double>())});
    else
      return "sent; the receiver says how much arrived\n";
  return bench::table(rows);
}

std::string commit_table(const Json& out) {
  const bool beside = out["configuration"]["beside"];
  Rows rows{{"clients", "level", "server", "TPS", "p50 us", "p99 us", "p50 ratio to the first level"}};
  if (beside) rows[0].insert(rows[0].end(), {"to beside: p50", "p99", "TPS"});
  for (const Json& each : out["results"]) {
    rows.push_back({number(each["clients"]), each["level"], each["server"], number(each["tps"]), number(each["p50_us"]),
                    number(each["p99_us"]), fmt::format("{:.2f}", each["p50_to_first_level"].get<double>())});
    for (const char* ratio : {"p50_to_beside", "p99_to_beside", "tps_to_beside"})
      if (each.contains(ratio)) rows.back().push_back(fmt::format("{:.2f}", each[ratio].get<double>()));
  }
  return bench::table(rows);
}

int print(const std::expected<Json, Error>& out, bool json, std::string (*table)(const Json&)) {
  if (!out) return report_error(out.error());
  const std::string text = json ? out->dump(2) + "\n" : table(*out) + bench::goals_table((*out)["goals"]);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace

int bench_lag_command(const BenchArguments& arguments) {
  quiet_log(), outlive_interrupts();
  return print(bench::lag(arguments.lag), arguments.json, lag_table);
}

int bench_linerate_command(const BenchArguments& arguments) {
  quiet_log(), outlive_interrupts();
  return print(bench::linerate(arguments.linerate), arguments.json, linerate_table);
}

int bench_commit_command(const BenchArguments& arguments) {
  return print(bench::commit(arguments.commit), arguments.json, commit_table);
}

int bench_receive_command(const BenchArguments& arguments) {
  quiet_log();
  const auto config = load_config(arguments.config);
  if (!config) return report_error(config.error());
  const auto done = bench::receive(*config, arguments.sink, stop_on_signals());
  return done ? 0 : report_error(done.error());
}

}  // namespace slipstream::app
