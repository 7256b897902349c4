#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "ack/quorum.h"
#include "app/bypass_journal.h"
#include "app/commands.h"
#include "app/config.h"
#include "app/control.h"
#include "node/policy_book.h"
#include "node/state_file.h"
#include "postgres/sql_session.h"
#include "postgres/sync_names.h"
#include "wal/io/files.h"

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;
using postgres::SqlSession;

constexpr Duration kSqlPatience = seconds(10);

Error refused(std::string what, std::string remedy) {
  return {ExitCode::kRefused, std::move(what), "bypass", std::move(remedy)};
}

// What is written stays readable for the daemon, and PostgreSQL's peer authentication sees its user.
std::expected<void, Error> act_as_owner_of(const std::filesystem::path& directory) {
  struct stat info{};
  if (stat(directory.c_str(), &info) != 0)
    return std::unexpected(Error{ExitCode::kDirectory, "there is no such state directory", directory.string(),
                                 "give the configuration of the primary on this host"});
  if (geteuid() != 0 || info.st_uid == 0) return {};
  if (setegid(info.st_gid) != 0 || seteuid(info.st_uid) != 0)
    return std::unexpected(Error{ExitCode::kDirectory, "cannot act as the directory's owner", directory.string(),
                                 "run this as the daemon's user"});
  return {};
}

std::string who() {
  if (const char* behind = std::getenv("SUDO_USER")) return behind;
  const passwd* entry = getpwuid(getuid());
  return entry ? entry->pw_name : std::to_string(getuid());
}

std::string now_text() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))); }

std::string sql_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

struct Names {
  std::string value;
  bool by_alter_system = false;
  bool fixed = false;  // Given on PostgreSQL's command line: nothing in a file overrides it.
};

std::expected<Names, Error> read_names(SqlSession& session) {
  const auto rows = session.query(
      "SELECT setting, coalesce(sourcefile LIKE '%postgresql.auto.conf', false), source = 'command line', "
      "pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_settings WHERE name = 'synchronous_standby_names'");
  if (!rows) return std::unexpected(rows.error());
  const auto is = [&](std::size_t i) { return rows->front()[i].value_or("") == "t"; };
  if (is(3))
    return std::unexpected(Error{ExitCode::kDatabase, "this server is in recovery: it is a standby, not a primary",
                                 "primary.conninfo", "point conninfo at the primary"});
  return Names{rows->front()[0].value_or(""), is(1), is(2)};
}

// Puts the names into force; an absent value takes back what ALTER SYSTEM had set. Returns what then holds.
std::expected<std::string, Error> set_names(SqlSession& session, const std::optional<std::string>& value) {
  const std::string change =
      value ? "SET synchronous_standby_names = " + sql_quoted(*value) : std::string("RESET synchronous_standby_names");
  if (auto set = session.query("ALTER SYSTEM " + change); !set) {
    Error problem = set.error();
    problem.remedy =
        "use a superuser in primary.conninfo, or run as one: ALTER SYSTEM " + change + "; SELECT pg_reload_conf();";
    return std::unexpected(problem);
  }
  const auto at = session.value("SELECT pg_catalog.pg_conf_load_time()");
  if (auto told = session.query("SELECT pg_catalog.pg_reload_conf()"); !told) return std::unexpected(told.error());
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(50ms);
    const auto loaded = session.value("SELECT pg_catalog.pg_conf_load_time()");
    if (!loaded) return std::unexpected(loaded.error());
    if (at && *loaded != *at) return session.value("SELECT current_setting('synchronous_standby_names')");
  }
  return std::unexpected(Error{ExitCode::kDatabase, "PostgreSQL did not reload its configuration within 5 s",
                               "primary.conninfo", "look at its log, then repeat this"});
}

std::expected<long, Error> waiting_commits(SqlSession& session) {
  const auto count = session.value("SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE wait_event = 'SyncRep'");
  if (!count) return std::unexpected(count.error());
  return std::strtol(count->c_str(), nullptr, 10);
}

// The daemon is dead: what it would have marked is marked here, for it to spread when it lives again (R2). From a
// position not known: nobody can say what the replicas hold.
std::expected<void, Error> mark_in_state(const std::filesystem::path& directory) {
  const auto path = directory / "state";
  if (!std::filesystem::exists(path)) return {};  // Nothing was ever promised from here.
  const auto content = wal::io::read_durable(path);
  if (!content) return std::unexpected(content.error());
  auto state = node::decode_state(*content, path.string());
  if (!state) return std::unexpected(state.error());
  node::PolicyRecord& policy = state->pending_policy ? *state->pending_policy : state->policy;
  if (policy.text.empty() || node::has_open_mark(state->not_held)) return {};
  policy.version = node::next_policy_version(policy.version, {state->own_epoch.term, state->own_epoch.incarnation + 1});
  node::open_mark(state->not_held, Lsn{});
  return wal::io::durable_replace(path, node::encode(*state));
}

struct Told {
  std::string daemon;  // "told", "dead" or "hangs"
  std::string note;
};

// Before the names change: the mark is durable on the primary, and on the replicas that can be reached.
std::expected<Told, Error> mark(const Config& config) {
  const auto told = control_call(config.runtime.control_socket, {{"command", "expect_bypass"}}, 5s);
  if (told) return Told{"told", told->value("note", "")};
  if (told.error().code != ExitCode::kUnreachable) return std::unexpected(told.error());
  const auto lock = wal::io::DirectoryLock::acquire(config.primary.state_directory);
  if (!lock)
    return Told{"hangs",
                fmt::format("the daemon does not answer and cannot be told ({}); it marks what replicas may lack when "
                            "it goes on. Leave the bypass on until then",
                            lock.error().what)};
  if (auto marked = mark_in_state(config.primary.state_directory); !marked) return std::unexpected(marked.error());
  return Told{"dead", "the daemon is dead; the mark stands in its state, for it to spread when it is started"};
}

std::expected<Json, Error> switch_on(const Config& config, SqlSession& session, const BypassArguments& arguments) {
  const auto names = read_names(session);
  if (!names) return std::unexpected(names.error());
  if (!postgres::names_always_contain(names->value, config.primary.application_name))
    return Json{{"bypass", "on"}, {"changed", false}, {"synchronous_standby_names", names->value}};
  if (postgres::names_always_contain(arguments.names, config.primary.application_name))
    return std::unexpected(Error{ExitCode::kUsage, "with these names commits would wait for slipstream as before",
                                 "--names", "leave " + config.primary.application_name + " out"});
  if (names->fixed)
    return std::unexpected(refused("synchronous_standby_names was given on PostgreSQL's command line",
                                   "start PostgreSQL without it; no reload changes it"));
  const auto waited = waiting_commits(session);
  if (!waited) return std::unexpected(waited.error());
  BypassJournal journal(config.primary.state_directory);
  const BypassEntry entry{true, now_text(), who(), arguments.reason, names->value, names->by_alter_system};
  if (auto kept = journal.append(entry); !kept) return std::unexpected(kept.error());
  const auto told = mark(config);
  if (!told) return std::unexpected(told.error());
  const auto now = set_names(session, arguments.names);
  if (!now) return std::unexpected(now.error());
  long waiting = *waited;
  for (int i = 0; i < 150 && arguments.names.empty() && waiting > 0; ++i) {
    std::this_thread::sleep_for(100ms);
    const auto still = waiting_commits(session);
    if (!still) return std::unexpected(still.error());
    waiting = *still;
  }
  Json out = to_json(entry);
  out["changed"] = true, out["synchronous_standby_names"] = *now, out["waited"] = *waited, out["wait_still"] = waiting,
  out["daemon"] = told->daemon, out["note"] = told->note;
  return out;
}

// Commits would wait at once for what is not there.
std::expected<void, Error> check_policy_can_be_met(const Config& config) {
  const auto status = control_call(config.runtime.control_socket, {{"command", "status"}}, 5s);
  const std::string anyway = "; --force puts the names back all the same, and commits wait";
  if (!status) {
    Error problem = status.error();
    problem.what = "commits would wait: " + problem.what;
    problem.remedy += anyway;
    return std::unexpected(problem);
  }
  const Json& view = (*status)["primary"];
  if (view["state"] != "running")
    return std::unexpected(refused("commits would wait: the daemon's state is " + view["state"].get<std::string>(),
                                   "slipstream status says why" + anyway));
  std::vector<ack::Member> members;
  std::vector<ack::ReplicaAcks> acks;
  constexpr Lsn kHeld{1};
  for (const Json& replica : view["replicas"]) {
    const NodeId id{replica["number"].get<std::uint16_t>()};
    members.push_back({id, replica["name"].get<std::string>()});
    const bool counts = replica["counts"].get<bool>();
    acks.push_back({id, counts ? ack::Ends{{kHeld, kHeld, kHeld}} : ack::Ends{}, counts, counts});
  }
  const auto policy = ack::Policy::parse(config.policy, members);
  if (!policy) return std::unexpected(policy.error());
  if (ack::waiting_for(*policy, acks, ack::Level::kDurable, kHeld).empty()) return {};
  return std::unexpected(
      refused(fmt::format("commits would wait: policy \"{}\" needs more replicas that count", config.policy),
              "slipstream status shows which count; start the missing ones" + anyway));
}

std::expected<Json, Error> switch_off(const Config& config, SqlSession& session, const BypassArguments& arguments) {
  BypassJournal journal(config.primary.state_directory);
  const auto newest = journal.newest();
  if (!newest) return std::unexpected(newest.error());
  const auto names = read_names(session);
  if (!names) return std::unexpected(names.error());
  const bool contained = postgres::names_always_contain(names->value, config.primary.application_name);
  if (!contained && (!*newest || !(*newest)->on))
    return std::unexpected(
        refused(fmt::format("no bypass is on record, but synchronous_standby_names is '{}'", names->value),
                fmt::format("ALTER SYSTEM SET synchronous_standby_names = '{}'; SELECT pg_reload_conf()",
                            config.primary.application_name)));
  if (contained && (!*newest || !(*newest)->on))
    return Json{{"bypass", "off"}, {"changed", false}, {"synchronous_standby_names", names->value}};
  if (!arguments.force)
    if (auto fit = check_policy_can_be_met(config); !fit) return std::unexpected(fit.error());
  BypassEntry entry = **newest;
  std::string now = names->value;
  if (!contained) {
    auto set = set_names(session, entry.by_alter_system ? std::optional(entry.names_before) : std::nullopt);
    if (set && !postgres::names_always_contain(*set, config.primary.application_name))
      set = set_names(session, entry.names_before);  // The file has changed meanwhile.
    if (!set) return std::unexpected(set.error());
    now = *set;
  }
  entry.on = false, entry.since = now_text(), entry.by = who();
  if (auto kept = journal.append(entry); !kept) return std::unexpected(kept.error());
  Json out = to_json(entry);
  out["changed"] = true, out["synchronous_standby_names"] = now;
  return out;
}

std::expected<Json, Error> bypass(const BypassArguments& arguments) {
  const auto config = load_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  if (config->role != Role::kPrimary)
    return std::unexpected(
        Error{ExitCode::kUsage, "this is a replica's configuration", arguments.config, "give the primary's"});
  if (auto acting = act_as_owner_of(config->primary.state_directory); !acting) return std::unexpected(acting.error());
  auto session =
      SqlSession::connect(config->primary.conninfo, config->primary.application_name + "_bypass", {-1, kSqlPatience});
  if (!session) return std::unexpected(session.error());
  return arguments.on ? switch_on(*config, *session, arguments) : switch_off(*config, *session, arguments);
}

void print(const BypassArguments& arguments, const Json& result) {
  const std::string names = result["synchronous_standby_names"];
  if (!result["changed"].get<bool>()) {
    std::printf("nothing to do: synchronous_standby_names is '%s'\n", names.c_str());
    return;
  }
  if (!arguments.on) {
    std::printf("bypass off: synchronous_standby_names is '%s' again, commits wait for the policy\n", names.c_str());
    return;
  }
  std::printf("bypass on: synchronous_standby_names is '%s', commits no longer wait for replicas (%ld waited%s)\n",
              names.c_str(), result["waited"].get<long>(),
              result["wait_still"].get<long>() > 0 ? ", some still do" : "");
  if (const std::string note = result["note"]; !note.empty()) std::printf("note: %s\n", note.c_str());
  std::printf(
      "From now on what is acknowledged may exist on this server alone. When replicas count again: slipstream bypass "
      "off -c %s\n",
      arguments.config.c_str());
}

}  // namespace

int bypass_command(const BypassArguments& arguments) {
  const auto done = bypass(arguments);
  if (!done) return report_error(done.error());
  if (arguments.json)
    std::printf("%s\n", done->dump(2).c_str());
  else
    print(arguments, *done);
  return 0;
}

}  // namespace slipstream::app
