#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "app/commands.h"
#include "app/config.h"
#include "app/daemon.h"
#include "app/subprocess.h"
#include "node/state_file.h"
#include "postgres/sql_session.h"
#include "wal/io/files.h"
#include "wal/segment.h"

namespace slipstream::app {
namespace {

Error directory_error(const std::filesystem::path& path, std::string what, std::string remedy) {
  return {ExitCode::kDirectory, std::move(what), path.string(), std::move(remedy)};
}

std::uint64_t page_magic_of(std::uint32_t server_version_num) {
  for (std::uint32_t magic = 0xD100; magic < 0xD120; ++magic)
    if (wal::version_of_magic(static_cast<std::uint16_t>(magic)) == std::to_string(server_version_num / 10000))
      return magic;
  return 0;
}

// postgresql.auto.conf's quoting.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

// Of a file, or of a directory's names. 0, or an errno.
int sync_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int problem = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return problem;
}

// The standby follows our feed and nothing else. What it copied of the primary's synchronous_standby_names would make
// its own commits hang after a promotion.
std::expected<void, Error> configure_standby(const Config& config, const InitStandbyArguments& arguments) {
  const std::filesystem::path pgdata = arguments.pgdata;
  std::string host = config.replica.feed.socket_directory, port = std::to_string(config.replica.feed.port);
  std::string patience;
  if (!arguments.fallback_host.empty()) {  // libpq tries them in this order.
    host += "," + arguments.fallback_host, port += fmt::format(",{}", arguments.fallback_port);
    patience = " connect_timeout=5";
  }
  const std::string conninfo =
      fmt::format("host={} port={} application_name={} user={}{}", host, port, config.name, arguments.user, patience);
  std::ofstream conf(pgdata / "postgresql.auto.conf", std::ios::app);
  conf << "# by slipstream init-standby\nprimary_conninfo = " << quoted(conninfo)
       << "\nprimary_slot_name = ''\nrestore_command = ''\nsynchronous_standby_names = ''\nhot_standby = "
          "on\nrecovery_target_timeline = 'latest'\n";
  if (arguments.port != 0) conf << "port = " << arguments.port << "\n";
  for (const std::string& setting : arguments.settings) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos)
      return std::unexpected(Error{ExitCode::kUsage, fmt::format("\"{}\" is no name=value", setting), "--set", ""});
    conf << setting.substr(0, equals) << " = " << quoted(setting.substr(equals + 1)) << "\n";
  }
  std::ofstream(pgdata / "standby.signal").flush();
  if (geteuid() == 0)
    if (const passwd* entry = getpwnam(arguments.user.c_str()))
      (void)!chown((pgdata / "standby.signal").c_str(), entry->pw_uid, entry->pw_gid);
  if (!conf.flush())
    return std::unexpected(
        directory_error(pgdata, "cannot write postgresql.auto.conf", "check its rights and the disk's free space"));
  // Without its signal file a backup that survives a power cut would start as a primary of its own.
  for (const auto& path : {pgdata / "postgresql.auto.conf", pgdata / "standby.signal", pgdata})
    if (const int problem = sync_file(path); problem != 0)
      return std::unexpected(Error{ExitCode::kStorage, std::string("cannot make it durable: ") + std::strerror(problem),
                                   path.string(), "look at the file system's free space and the kernel's log"});
  return {};
}

// A line of pg_controldata.
std::string control_value(const std::string& control, const std::string& key) {
  const auto at = control.find(key + ":");
  if (at == std::string::npos) return "";
  const auto begin = control.find_first_not_of(' ', at + key.size() + 1);
  return control.substr(begin, control.find('\n', begin) - begin);
}

// From where a standby that is there already replays when it starts.
std::expected<Lsn, Error> redo_of_standby(const InitStandbyArguments& arguments, const postgres::PrimaryFacts& facts) {
  if (!std::filesystem::exists(std::filesystem::path(arguments.pgdata) / "standby.signal"))
    return std::unexpected(directory_error(arguments.pgdata, "no standby that could be kept is here (standby.signal)",
                                           "leave --keep-standby out to make one"));
  const auto control =
      output_of_program({postgres_program("pg_controldata", facts.server_version_num), "-D", arguments.pgdata},
                        arguments.user, ExitCode::kDirectory);
  if (!control) return std::unexpected(control.error());
  if (const std::string system = control_value(*control, "Database system identifier");
      system != std::to_string(facts.system.value))
    return std::unexpected(directory_error(
        arguments.pgdata,
        fmt::format("this standby belongs to the cluster with system identifier {}, the primary's is {}", system,
                    facts.system.value),
        "name the right primary or the right standby"));
  const auto redo = parse_lsn(control_value(*control, "Latest checkpoint's REDO location"));
  if (!redo)
    return std::unexpected(directory_error(arguments.pgdata, "pg_controldata says nothing of a REDO location",
                                           "leave --keep-standby out and make the standby anew"));
  return *redo;
}

// The log of a standby that is kept begins where that starts to replay, so the primary must still have that.
std::expected<Lsn, Error> begin_for_standby(const InitStandbyArguments& arguments, const postgres::PrimaryFacts& facts,
                                            postgres::SqlSession& session) {
  const auto redo = redo_of_standby(arguments, facts);
  if (!redo) return redo;
  const wal::SegmentLayout layout(facts.segment_size);
  const std::string name = layout.file_name(facts.timeline, layout.number_of(*redo)).substr(8);
  const auto there = session.value(fmt::format(
      "SELECT count(*) > 0 FROM pg_catalog.pg_ls_waldir() WHERE length(name) = 24 AND substr(name, 9) = '{}'", name));
  if (!there) return std::unexpected(there.error());
  if (*there != "t")
    return std::unexpected(directory_error(
        arguments.pgdata,
        fmt::format("the standby replays from {} on, which the primary's pg_wal no longer has", to_string(*redo)),
        "remove the standby's directory and leave --keep-standby out"));
  return layout.segment_begin(*redo);
}

std::expected<void, Error> init_standby(const InitStandbyArguments& arguments) {
  const auto config = load_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  if (config->role != Role::kReplica)
    return std::unexpected(
        Error{ExitCode::kUsage, "this is a primary's configuration", arguments.config, "give the replica's"});
  if (config->replica.log_only != arguments.pgdata.empty())
    return std::unexpected(Error{
        ExitCode::kUsage,
        config->replica.log_only ? "a log_only replica has no standby: leave --pgdata out" : "--pgdata is missing",
        arguments.config, ""});
  const std::filesystem::path directory = config->replica.directory;
  if (std::filesystem::exists(directory / "state"))
    return std::unexpected(
        directory_error(directory, "a replica's log is here already",
                        "to make it anew, stop its daemon and standby and remove this directory and the standby's"));

  // A slot of its own keeps the WAL from before the backup on, until the primary's daemon has met the replica and it
  // streams: the log begins at the segment that holds the slot's position. Repeating this goes on with the same slot.
  auto session = postgres::SqlSession::connect(arguments.primary, "slipstream_init");
  if (!session) return std::unexpected(session.error());
  const auto facts = postgres::check_primary(*session);
  if (!facts) return std::unexpected(facts.error());
  const auto restart = postgres::ensure_slot(*session, postgres::joining_slot(arguments.slot, config->name));
  if (!restart) return std::unexpected(restart.error());
  const wal::SegmentLayout layout(facts->segment_size);
  Lsn log_begin = layout.segment_begin(*restart);
  if (arguments.keep_standby) {
    const auto wanted = begin_for_standby(arguments, *facts, *session);
    if (!wanted) return std::unexpected(wanted.error());
    log_begin = std::min(log_begin, *wanted);
  }
  std::fprintf(stderr, "replica %s: log from %s, system %llu\n", config->name.c_str(), to_string(log_begin).c_str(),
               static_cast<unsigned long long>(facts->system.value));

  if (!config->replica.log_only && !arguments.keep_standby) {
    std::vector<std::string> command{postgres_program("pg_basebackup", facts->server_version_num),
                                     "-d",
                                     arguments.primary,
                                     "-D",
                                     arguments.pgdata,
                                     "-X",
                                     "none",
                                     "-c",
                                     "fast",
                                     "--no-password"};
    if (isatty(STDERR_FILENO)) command.push_back("--progress");
    // It would warn that nothing archives the backup's WAL: the replica's log brings it.
    ::setenv("PGOPTIONS", "-c client_min_messages=warning", 0);
    auto backup = run_program(command, arguments.user, ExitCode::kDatabase);
    if (!backup) return std::unexpected(backup.error());
  }
  if (!config->replica.log_only)
    if (auto done = configure_standby(*config, arguments); !done) return std::unexpected(done.error());

  std::error_code problem;
  std::filesystem::create_directories(directory / "wal", problem);
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all, problem);
  node::State state;
  state.role = node::State::Role::kReplica;
  state.system = facts->system, state.segment_size = facts->segment_size, state.timeline = facts->timeline,
  state.page_magic = page_magic_of(facts->server_version_num);
  state.log_id = LogId{{random_u64(), random_u64()}};
  state.log_begin = state.scan_begin = state.counted_end = state.final_end = log_begin;
  state.log_only = config->replica.log_only;
  if (facts->timeline.value > 1) {
    const std::string name = wal::history_file_name(facts->timeline);
    const auto history = session->value(fmt::format("SELECT pg_catalog.pg_read_file('pg_wal/{}')", name));
    if (!history) return std::unexpected(history.error());
    if (auto kept = wal::io::durable_replace(directory / "wal" / name,
                                             std::as_bytes(std::span(history->data(), history->size())));
        !kept)
      return std::unexpected(kept.error());
  }
  // Last, so that an interrupted run leaves nothing that looks complete.
  if (auto kept = wal::io::durable_replace(directory / "state", node::encode(state)); !kept)
    return std::unexpected(kept.error());
  std::fprintf(stderr, "next: slipstream run -c %s%s\n", arguments.config.c_str(),
               config->replica.log_only ? "" : ", then start the standby");
  return {};
}

}  // namespace

int init_standby_command(const InitStandbyArguments& arguments) {
  const auto done = init_standby(arguments);
  return done ? 0 : report_error(done.error());
}

}  // namespace slipstream::app
