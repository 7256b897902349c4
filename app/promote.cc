#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "app/commands.h"
#include "app/config.h"
#include "app/control.h"
#include "app/log_order.h"
#include "app/promotion.h"
#include "app/replica_directory.h"
#include "app/status.h"
#include "postgres/sql_session.h"

namespace slipstream::app {
namespace {

std::expected<Config, Error> replica_config(const std::string& path) {
  auto config = load_config(path);
  if (config && config->role != Role::kReplica)
    return std::unexpected(
        Error{ExitCode::kUsage, "this is a primary's configuration", path, "fence and promote work on replicas"});
  return config;
}

// Through the daemon, or in its directory when it is stopped.
std::expected<Json, Error> fence(const Config& config, const FenceArguments& arguments, bool daemon_only,
                                 std::span<const LsnRange> also = {}) {
  Json request{{"command", "fence"}, {"candidate", arguments.candidate}, {"supersede", arguments.supersede}};
  request["also"] = ranges_json(also);
  if (arguments.term) request["term"] = *arguments.term;
  auto answer = control_call(config.runtime.control_socket, request, std::chrono::seconds(60));
  if (answer || answer.error().code != ExitCode::kUnreachable || daemon_only) return answer;
  const auto evidence = examine_stopped(config.replica.directory, config.name, config.self().number,
                                        {arguments.candidate, arguments.term, arguments.supersede});
  if (!evidence) return std::unexpected(evidence.error());
  return evidence_json(*evidence);
}

std::expected<std::vector<node::Evidence>, Error> read_all(const std::vector<std::string>& files) {
  std::vector<node::Evidence> out;
  for (const std::string& file : files) {
    auto evidence = read_evidence(file);
    if (!evidence) return std::unexpected(evidence.error());
    out.push_back(std::move(*evidence));
  }
  return out;
}

std::expected<void, Error> wait_for_replay(postgres::SqlSession& standby, Lsn end, int timeout_seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
  std::string replayed;
  while (std::chrono::steady_clock::now() < deadline) {
    const auto value =
        standby.value(fmt::format("SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
                                  "coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::text ELSE 'primary' END"));
    if (!value) return std::unexpected(value.error());
    if (*value == "primary")
      return std::unexpected(
          Error{ExitCode::kRefused, "this standby was promoted already", "standby", "it is a primary now"});
    replayed = *value;
    const auto at = parse_lsn(replayed);
    if (at && *at >= end) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return std::unexpected(Error{
      ExitCode::kDatabase,
      fmt::format("the standby has replayed to {} within {} s, not to {}", replayed, timeout_seconds, to_string(end)),
      "standby",
      "is it streaming from this replica's feed (pg_stat_wal_receiver), or does a recovery setting hold it back? then "
      "repeat promote"});
}

std::expected<Json, Error> promote(const PromoteArguments& arguments) {
  const auto config = replica_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  const auto others = read_all(arguments.evidence);
  if (!others) return std::unexpected(others.error());
  if (config->replica.standby_conninfo.empty())
    return std::unexpected(Error{ExitCode::kConfiguration, "replica.standby_conninfo is missing", arguments.config,
                                 config->replica.log_only
                                     ? "a log_only replica cannot be promoted: let a member with a standby adopt its "
                                       "log (slipstream adopt-log) and promote that"
                                     : "it must lead to the standby that is to be promoted"});
  auto standby = postgres::SqlSession::connect(config->replica.standby_conninfo, "slipstream_promote");
  if (!standby) return std::unexpected(standby.error());

  // Fence first: only what is held after the promise is compared (P2).
  FenceArguments own{arguments.config, config->name, arguments.term, arguments.supersede, ""};
  if (!own.term && !others->empty()) own.term = others->front().promise.epoch.term;
  const auto fenced = fence(*config, own, true, compared_ranges(*others));
  if (!fenced) return std::unexpected(fenced.error());
  const auto evidence = parse_evidence(*fenced, "the daemon's answer");
  if (!evidence) return std::unexpected(evidence.error());
  const auto plan = plan_promotion(*evidence, *others, {arguments.sole_survivor, arguments.accept_loss});
  if (!plan) return std::unexpected(plan.error());

  if (auto released = control_call(config->runtime.control_socket,
                                   {{"command", "release"}, {"unfenced", members_json(plan->unfenced)}});
      !released)
    return std::unexpected(released.error());
  if (auto replayed = wait_for_replay(*standby, plan->end, arguments.timeout_seconds); !replayed)
    return std::unexpected(replayed.error());
  const auto promoted = standby->value("SELECT pg_catalog.pg_promote(true, 60)");
  if (!promoted) return std::unexpected(promoted.error());
  if (*promoted != "t")
    return std::unexpected(Error{ExitCode::kDatabase, "the standby did not leave recovery within 60 s", "standby",
                                 "look at its log; then repeat promote"});
  if (auto marked = control_call(config->runtime.control_socket, {{"command", "promoted"}}); !marked)
    return std::unexpected(marked.error());
  const auto file = standby->value("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())");
  return Json{{"promoted", config->name},
              {"term", plan->term},
              {"end", to_string(plan->end)},
              {"timeline", file ? std::stoul(file->substr(0, 8), nullptr, 16) : 0},
              {"compared", plan->present},
              {"missing", plan->missing},
              {"may_be_missing", plan->may_be_missing},
              {"not_held", marks_json(plan->not_held)}};
}

// What the operator learnt after the promotion: who has been fenced since, or is gone for good.
std::expected<Json, Error> tell_fenced(const PromoteArguments& arguments) {
  const auto config = replica_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  const auto fenced = read_all(arguments.fenced);
  if (!fenced) return std::unexpected(fenced.error());
  Json request{{"command", "fenced"}, {"evidence", Json::array()}, {"destroyed", arguments.destroyed}};
  for (node::Evidence evidence : *fenced) {
    evidence.blocks.clear();
    request["evidence"].push_back(evidence_json(evidence));
  }
  return control_call(config->runtime.control_socket, request);
}

void print_fenced(const Json& result) {
  const auto left = result["unfenced"].get<std::vector<std::string>>();
  if (left.empty())
    std::printf("every member is fenced in term %u: no split brain is possible\n", result["term"].get<unsigned>());
  else
    std::printf(
        "%s\n",
        split_brain_warning(left, result["candidate"].get<std::string>(), result["term"].get<std::uint32_t>()).c_str());
}

void print_promotion(const Json& result) {
  std::printf("promoted %s in term %u at %s, now on timeline %lu\n", result["promoted"].get<std::string>().c_str(),
              result["term"].get<unsigned>(), result["end"].get<std::string>().c_str(),
              result["timeline"].get<unsigned long>());
  if (!result["may_be_missing"].get<std::string>().empty())
    std::printf("MAY BE MISSING: %s\n", result["may_be_missing"].get<std::string>().c_str());
  if (const auto missing = result["missing"].get<std::vector<std::string>>(); !missing.empty())
    std::printf("%s\n",
                split_brain_warning(missing, result["promoted"].get<std::string>(), result["term"].get<std::uint32_t>())
                    .c_str());
  std::printf(
      "not excluded: a bypass or a change of synchronous_standby_names made while the old primary's daemon was dead or "
      "out of reach; if its host can be read, look at bypass.jsonl in its state directory\n");
  std::printf(
      "next: point clients at this server; keep the old primary down (its daemon would be refused); make new replicas "
      "of this server with slipstream init-standby\n");
}

}  // namespace

int fence_command(const FenceArguments& arguments) {
  const auto config = replica_config(arguments.config);
  if (!config) return report_error(config.error());
  const auto evidence = fence(*config, arguments, false);
  if (!evidence) return report_error(evidence.error());
  const std::string text = evidence->dump(arguments.output.empty() ? 2 : -1) + "\n";
  if (arguments.output.empty()) {
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  std::ofstream file(arguments.output);
  if (!(file << text) || !file.flush())
    return report_error({ExitCode::kUsage, "cannot write the evidence", arguments.output,
                         "the fence itself stands; repeat with another -o"});
  std::printf("%s has promised term %u to %s; durable to %s. Evidence: %s\n",
              (*evidence)["name"].get<std::string>().c_str(), (*evidence)["promised_term"].get<unsigned>(),
              arguments.candidate.c_str(), (*evidence)["durable_end"].get<std::string>().c_str(),
              arguments.output.c_str());
  return 0;
}

int promote_command(const PromoteArguments& arguments) {
  const bool afterwards = !arguments.fenced.empty() || !arguments.destroyed.empty();
  const auto result = afterwards ? tell_fenced(arguments) : promote(arguments);
  if (!result) return report_error(result.error());
  if (arguments.json)
    std::printf("%s\n", result->dump(2).c_str());
  else if (afterwards)
    print_fenced(*result);
  else
    print_promotion(*result);
  return 0;
}

}  // namespace slipstream::app
