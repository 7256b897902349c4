#include "app/commands.h"
#include "app/keys.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>

#include "app/config.h"
#include "app/daemon.h"
#include "app/ledger_check.h"
#include "app/network.h"
#include "app/promotion.h"
#include "app/replica_directory.h"
#include "app/status.h"
#include "postgres/sql_session.h"
#include "postgres/sync_names.h"
#include "wal/io/files.h"

namespace slipstream::app {
namespace {

std::atomic<bool> stop_requested{false};

void request_stop(int) { stop_requested = true; }

std::expected<void, Error> check_primary_of(const Config& config) {
  auto session = postgres::SqlSession::connect(config.primary.conninfo, config.primary.application_name + "_check");
  if (!session) return std::unexpected(session.error());
  const auto facts = postgres::check_primary(*session);
  if (!facts) return std::unexpected(facts.error());
  const std::string wal =
      config.primary.wal_directory.empty() ? facts->data_directory + "/pg_wal" : config.primary.wal_directory;
  if (auto fit = wal::io::check_wal_directory(wal, wal::SegmentLayout(facts->segment_size)); !fit) return fit;
  std::printf("PostgreSQL %u.%u, system %llu, timeline %u: settings are fit\n", facts->server_version_num / 10000,
              facts->server_version_num % 10000, static_cast<unsigned long long>(facts->system.value),
              facts->timeline.value);
  // Our own walsender, if the daemon runs, is the one we need.
  std::string ours = config.primary.application_name;
  for (auto at = ours.find('\''); at != std::string::npos; at = ours.find('\'', at + 2)) ours.insert(at, 1, '\'');
  const auto taken = session->value(
      "SELECT count(*) >= current_setting('max_wal_senders')::int FROM pg_catalog.pg_stat_replication WHERE "
      "application_name IS DISTINCT FROM '" +
      ours + "'");
  if (!taken) return std::unexpected(taken.error());
  if (*taken == "t")
    return std::unexpected(Error{
        ExitCode::kDatabase, "there is no free walsender", "the primary's max_wal_senders",
        "raise max_wal_senders and restart PostgreSQL, or stop another walsender (pg_stat_replication lists them)"});
  const auto names = session->value("SELECT current_setting('synchronous_standby_names')");
  if (names && !postgres::names_always_contain(*names, config.primary.application_name))
    std::printf(
        "note: synchronous_standby_names is '%s': commits do not wait for us yet. When the daemons run:  ALTER SYSTEM "
        "SET synchronous_standby_names = '%s'; SELECT pg_reload_conf()\n",
        names->c_str(), config.primary.application_name.c_str());
  return {};
}

// Until it is interrupted. A daemon that does not answer is said and asked again. On a terminal each picture replaces
// the one before; elsewhere they follow each other, in JSON one a line.
int watch_status(const std::string& control, bool json, double pause_seconds) {
  const bool terminal = isatty(STDOUT_FILENO) != 0 && !json;
  while (true) {
    const auto status = control_call(control, {{"command", "status"}}, std::chrono::seconds(10));
    std::string text;
    if (json)
      text = (status ? *status : Json{{"error", status.error().message()}}).dump() + "\n";
    else
      text = fmt::format("{:%F %T}\n{}", fmt::localtime(std::time(nullptr)),
                         status ? status_table(*status) : status.error().message() + "\n");
    // Cursor home, the picture with every line's rest cleared, then what is left of the older one.
    if (terminal) {
      for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', end + 4))
        text.insert(end, "\033[K");
      text = "\033[H" + text + "\033[J";
    } else if (!json) {
      text += "\n";
    }
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) return 0;  // Nobody reads any more.
    std::this_thread::sleep_for(std::chrono::duration<double>(pause_seconds));
  }
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action{};
  action.sa_handler = request_stop;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return stop_requested;
}

int report_error(const Error& error) {
  std::fprintf(stderr, "slipstream: %s\n", error.message().c_str());
  return static_cast<int>(error.code);
}

int run_command(const RunArguments& arguments) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("slipstream"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  const auto config = load_config(arguments.config);
  if (!config) return report_error(config.error());
  if (arguments.claim_term && config->role != Role::kPrimary)
    return report_error({ExitCode::kUsage, "--claim-term is for a primary", arguments.config, ""});
  if (const auto devices = check_devices(*config); !devices) return report_error(devices.error());
  const std::atomic<bool>& stop = stop_on_signals();
  const auto done =
      config->role == Role::kPrimary ? run_primary(*config, arguments.claim_term, stop) : run_replica(*config, stop);
  return done ? 0 : report_error(done.error());
}

int config_check_command(const std::string& path, bool connect) {
  const auto config = load_config(path);
  if (!config) return report_error(config.error());
  if (config->sealed)
    if (const auto keys = load_keys(*config); !keys) return report_error(keys.error());
  std::printf("%s: %s %s, %zu ports, %zu replicas, policy \"%s\": fine\n", path.c_str(),
              config->role == Role::kPrimary ? "primary" : "replica", config->name.c_str(), config->ports.size(),
              config->replicas().size(), config->policy.c_str());
  if (!connect) return 0;
  if (const auto devices = check_devices(*config); !devices) return report_error(devices.error());
  if (config->role != Role::kPrimary) return 0;
  const auto fit = check_primary_of(*config);
  return fit ? 0 : report_error(fit.error());
}

int status_command(const StatusArguments& arguments) {
  std::string control = arguments.socket;
  if (control.empty()) {
    const auto config = load_config(arguments.config);
    if (!config) return report_error(config.error());
    control = config->runtime.control_socket;
  }
  if (arguments.watch_seconds) return watch_status(control, arguments.json, *arguments.watch_seconds);
  const auto status = control_call(control, {{"command", "status"}}, std::chrono::seconds(10));
  if (!status) return report_error(status.error());
  std::fputs(arguments.json ? (status->dump(2) + "\n").c_str() : status_table(*status).c_str(), stdout);
  return 0;
}

int position_command(const std::string& directory, bool check, bool json) {
  std::optional<LedgerCheck> checked;
  if (check) {
    // First: where a record is damaged too, it names the block instead of the record's begin.
    const auto compared = check_against_ledgers(directory);
    if (!compared) return report_error(compared.error());
    checked = *compared;
  }
  const auto evidence = examine_stopped(directory, "", {}, {});
  if (!evidence) return report_error(evidence.error());
  if (json) {
    Json out = evidence_json(*evidence);
    if (checked)
      out["ledger"] = {
          {"segments", checked->segments}, {"blocks", checked->blocks}, {"segments_without", checked->without}};
    std::printf("%s\n", out.dump(2).c_str());
    return 0;
  }
  const Epoch last = evidence->epoch_map.empty() ? evidence->held_epoch : evidence->epoch_map.back().epoch;
  std::printf(
      "replica   %s (log %s)\nsystem    %llu, timeline %u\nlog       %s to %s durable, %s final\nepoch     of its last "
      "byte %s, held %s\n",
      evidence->name.c_str(), to_string(evidence->log_id.value).c_str(),
      static_cast<unsigned long long>(evidence->system.value), evidence->timeline.value,
      to_string(evidence->log_begin).c_str(), to_string(evidence->durable_end).c_str(),
      to_string(evidence->final_end).c_str(), to_string(last).c_str(), to_string(evidence->held_epoch).c_str());
  if (evidence->promise.candidate.empty())
    std::printf("promised  epoch %s\n", to_string(evidence->promise.epoch).c_str());
  else
    std::printf("promised  term %u to %s\n", evidence->promise.epoch.term, evidence->promise.candidate.c_str());
  std::printf("policy    %s (version %llu)\nstandby   %s\n", evidence->policy.text.c_str(),
              static_cast<unsigned long long>(evidence->policy.version),
              evidence->log_only        ? "none (log_only)"
              : evidence->standby_ready ? "can start from this log"
                                        : "none was seen yet");
  if (checked)
    std::printf("ledger    %zu blocks of %zu segments compared, all equal; %zu segments have no ledger\n",
                checked->blocks, checked->segments, checked->without);
  return 0;
}

int version_command() {
  std::printf("slipstream %s (wire format 1)\n", SLIPSTREAM_VERSION);
  return 0;
}

}  // namespace slipstream::app
