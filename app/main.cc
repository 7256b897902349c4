#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <optional>

#include "app/commands.h"
#include "app/restore.h"
#include "base/nearest.h"

namespace slipstream::app {
namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 command line, 3 configuration, 4 PostgreSQL, 5 directory,\n"
    "            6 port or DPDK, 7 refused by a safety rule, 8 daemon unreachable, 9 storage failed.\n";

void add_run(CLI::App& app, RunArguments& arguments, int& code) {
  CLI::App* run = app.add_subcommand("run", "Run this host's daemon, primary or replica as the configuration says");
  run->add_option("-c,--config", arguments.config, "Configuration file")->required();
  run->add_option(
      "--claim-term", arguments.claim_term,
      "Primary: own this term from now on. Only after its former owner is gone for good or was promoted away");
  run->footer("Example:\n  slipstream run -c /etc/slipstream/p1.toml\nStops in order on SIGTERM and SIGINT.");
  run->callback([&] { code = run_command(arguments); });
}

void add_keygen(CLI::App& app, KeygenArguments& arguments, int& code) {
  CLI::App* keygen = app.add_subcommand("keygen", "Make the keys that frames are sealed with, or show a public key");
  keygen->add_option("file", arguments.file, "Key file")->required();
  CLI::Option* cluster =
      keygen->add_flag("--cluster", arguments.cluster, "Make the key that all hosts of a cluster share");
  keygen->add_flag("--show", arguments.show, "Print the public key of a file that is there")->excludes(cluster);
  keygen->add_flag("--json", arguments.json, "Print JSON");
  keygen->footer(
      "Example, once for the cluster and then on each host:\n  slipstream keygen --cluster "
      "/etc/slipstream/cluster.key\n"
      "  slipstream keygen /etc/slipstream/p1.key");
  keygen->callback([&] { code = keygen_command(arguments); });
}

void add_config(CLI::App& app, std::string& file, bool& connect, int& code) {
  CLI::App* config = app.add_subcommand("config", "Work with configuration files");
  config->require_subcommand(1);
  CLI::App* check =
      config->add_subcommand("check", "Check a configuration file, and with --connect the primary it names");
  check->add_option("-c,--config", file, "Configuration file")->required();
  check->add_flag("--connect", connect,
                  "Also look at this host: the devices of its ports; and at PostgreSQL's settings");
  check->footer("Example:\n  slipstream config check -c /etc/slipstream/p1.toml --connect");
  check->callback([&] { code = config_check_command(file, connect); });
}

void add_init_standby(CLI::App& app, InitStandbyArguments& arguments, int& code) {
  CLI::App* init = app.add_subcommand("init-standby",
                                      "Make a replica's directory and its standby from a base backup of the primary");
  init->add_option("-c,--config", arguments.config, "The replica's configuration file")->required();
  init->add_option("--primary", arguments.primary,
                   "Connection string of the primary (role with REPLICATION, and superuser or "
                   "pg_create_physical_replication_slot)")
      ->required();
  init->add_option("-D,--pgdata", arguments.pgdata,
                   "Data directory to make for the standby (log_only replicas need none)");
  init->add_flag("--keep-standby", arguments.keep_standby,
                 "This replica's standby is there already and only its log was lost: no base backup");
  init->add_option(
          "--slot", arguments.slot,
          "primary.slot of the primary's configuration; SLOT_joining_NAME keeps WAL until this replica streams")
      ->capture_default_str();
  init->add_option("--port", arguments.port, "Port of the standby");
  init->add_option("--fallback", arguments.fallback_host,
                   "Host of the primary: the standby streams from there while its feed is away, and is brought back");
  init->add_option("--fallback-port", arguments.fallback_port, "The primary's port")->capture_default_str();
  init->add_option("--user", arguments.user, "Run PostgreSQL's programs as this user when started by root")
      ->capture_default_str();
  init->add_option("--set", arguments.settings, "name=value for the standby's settings; may be repeated");
  init->footer(
      "Example:\n  slipstream init-standby -c /etc/slipstream/a.toml --primary 'host=db1 user=replicator "
      "dbname=postgres' -D /var/lib/postgresql/15/a");
  init->callback([&] { code = init_standby_command(arguments); });
}

void add_status(CLI::App& app, StatusArguments& arguments, int& code) {
  CLI::App* status =
      app.add_subcommand("status", "What the daemon is doing: positions, lag, who counts, whom commits wait for");
  auto* source = status->add_option_group("source");
  source->add_option("-c,--config", arguments.config, "The daemon's configuration file");
  source->add_option("--socket", arguments.socket, "Its control socket");
  source->require_option(1);
  status->add_flag("--json", arguments.json, "As JSON; with --watch one object a line");
  status
      ->add_option("--watch", arguments.watch_seconds,
                   "Again and again, every so many seconds (default 1), until interrupted")
      ->expected(0, 1)
      ->default_str("1")
      ->check(CLI::Range(0.1, 3600.0));
  status->footer(
      "Example:\n  slipstream status -c /etc/slipstream/p1.toml --watch\n  slipstream status -c "
      "/etc/slipstream/p1.toml --json "
      "| jq .primary.replicas");
  status->callback([&] { code = status_command(arguments); });
}

void add_position(CLI::App& app, std::string& directory, bool& check, bool& json, int& code) {
  CLI::App* position =
      app.add_subcommand("position", "What a stopped replica's directory holds: epoch of its last byte, positions");
  position->add_option("directory", directory, "The replica's directory")->required();
  position->add_flag("--check", check, "Also compare every segment with the digests that the daemon kept of it");
  position->add_flag("--json", json, "As JSON, with everything a promotion compares");
  position->footer("Example:\n  slipstream position /var/lib/slipstream/a --check");
  position->callback([&] { code = position_command(directory, check, json); });
}

void add_fence(CLI::App& app, FenceArguments& arguments, int& code) {
  CLI::App* fence = app.add_subcommand(
      "fence", "Make a replica promise a new term to a candidate, and print what it holds as evidence");
  fence->add_option("-c,--config", arguments.config, "The replica's configuration file")->required();
  fence->add_option("--candidate", arguments.candidate, "Name of the node that is to be promoted")->required();
  fence->add_option("--term", arguments.term, "The new term (default: one above the highest promised here)");
  fence->add_flag("--supersede", arguments.supersede, "Take back a promise made to another candidate of the same term");
  fence->add_option("-o,--output", arguments.output, "Write the evidence to this file");
  fence->footer(
      "From then on the replica acknowledges nothing to the old primary.\n"
      "Example, on each surviving replica but the candidate a:\n  slipstream fence -c b.toml --candidate a -o "
      "b.evidence");
  fence->callback([&] { code = fence_command(arguments); });
}

void add_adopt_log(CLI::App& app, AdoptLogArguments& arguments, int& code) {
  CLI::App* adopt = app.add_subcommand(
      "adopt-log",
      "A fenced member without a standby holds the better log: copy what is missing here, where the standby is");
  adopt->add_option("-c,--config", arguments.config, "This replica's configuration file; its daemon is stopped")
      ->required();
  adopt
      ->add_option("--from", arguments.from,
                   "Directory of the better replica, or a copy of it made after it was fenced")
      ->required();
  adopt->add_option("--evidence", arguments.evidence,
                    "Its evidence (from `slipstream fence`): the copy must hold all of that");
  adopt->add_flag("--json", arguments.json, "Print the result as JSON");
  adopt->footer(
      "Only adds bytes: refused unless the log here is a prefix of the other. Can be repeated after an interruption.\n"
      "Example:\n  slipstream adopt-log -c a.toml --from /mnt/b/slipstream --evidence b.evidence");
  adopt->callback([&] { code = adopt_log_command(arguments); });
}

void add_promote(CLI::App& app, PromoteArguments& arguments, int& code) {
  CLI::App* promote = app.add_subcommand(
      "promote",
      "The primary is gone: fence, compare a recovery set, replay all that is durable, promote the standby here");
  promote->add_option("-c,--config", arguments.config, "This replica's configuration file; its daemon and standby run")
      ->required();
  promote->add_option("--evidence", arguments.evidence,
                      "Evidence of another member (from `slipstream fence`); may be repeated");
  promote->add_option("--term", arguments.term, "The new term (default: the one that the evidence was fenced for)");
  promote->add_flag("--sole-survivor", arguments.sole_survivor, "Go on although the members present are no majority");
  promote->add_flag("--accept-loss", arguments.accept_loss,
                    "Go on without a recovery set: acknowledged commits may be missing");
  promote->add_flag("--supersede", arguments.supersede,
                    "Take back a promise made to another candidate of the same term");
  promote->add_option("--timeout", arguments.timeout_seconds, "Seconds to wait for the standby's replay")
      ->capture_default_str();
  promote->add_option("--fenced", arguments.fenced,
                      "After the promotion: evidence of a member that was fenced since, so that it is no longer warned "
                      "of; may be repeated");
  promote->add_option("--destroyed", arguments.destroyed,
                      "After the promotion: name of a member whose directory is gone for good; may be repeated");
  promote->add_flag("--json", arguments.json, "Print the result as JSON");
  promote->footer(
      "Example:\n  slipstream promote -c a.toml --evidence b.evidence\n"
      "Later, when c is reached and fenced too:\n  slipstream promote -c a.toml --fenced c.evidence\n"
      "Never use pg_ctl promote: the standby may be behind what its replica acknowledged.");
  promote->callback([&] { code = promote_command(arguments); });
}

void add_bypass(CLI::App& app, BypassArguments& arguments, int& code) {
  CLI::App* bypass = app.add_subcommand(
      "bypass", "Let commits go on without replicas, on the record; also while the daemon is dead. Then end that");
  bypass->require_subcommand(1);
  CLI::App* on = bypass->add_subcommand("on",
                                        "Commits no longer wait for slipstream: what is acknowledged from now on "
                                        "may exist on this server alone");
  CLI::App* off = bypass->add_subcommand("off", "Commits wait for the policy again");
  for (CLI::App* each : {on, off}) {
    each->add_option("-c,--config", arguments.config, "The primary's configuration file")->required();
    each->add_flag("--json", arguments.json, "Print the result as JSON");
  }
  on->add_option("--reason", arguments.reason, "Why, for the record and for status")->required();
  on->add_option("--names", arguments.names, "synchronous_standby_names meanwhile (default: empty)");
  off->add_flag("--force", arguments.force, "Also while commits would wait, or the daemon does not answer");
  on->footer("Example:\n  slipstream bypass on -c /etc/slipstream/p1.toml --reason 'both replicas down, ticket 4711'");
  off->footer("Example:\n  slipstream bypass off -c /etc/slipstream/p1.toml");
  on->callback([&] { arguments.on = true, code = bypass_command(arguments); });
  off->callback([&] { code = bypass_command(arguments); });
}

CLI::App* add_restore(CLI::App& app, RestoreArguments& arguments, int& code) {
  CLI::App* restore = app.add_subcommand("restore", "Use a replica's log as an archive: PostgreSQL's restore_command");
  auto* source = restore->add_option_group("source");
  source->add_option("-c,--config", arguments.config, "The replica's configuration file");
  source->add_option("--directory", arguments.directory, "Its directory (replica.directory), or a copy of that");
  source->require_option(1);
  restore->add_option("name", arguments.name, "The file wanted: %f")->required();
  restore->add_option("destination", arguments.destination, "Where to put it: %p")->required();
  restore->footer(
      "Example, in postgresql.conf of the server that recovers:\n"
      "  restore_command = 'slipstream restore -c /etc/slipstream/a.toml %f %p'\n"
      "Exit codes: 0 done, 1 not held, 255 anything else; PostgreSQL stops at 255 instead of taking it for the end of "
      "the archive.");
  restore->callback([&] { code = restore_command(arguments); });
  return restore;
}

void add_verify(CLI::App& app, VerifyArguments& arguments, int& code) {
  CLI::App* verify = app.add_subcommand("verify", "Compare two copies of a log, and point at the first difference");
  verify->add_option("left", arguments.left, "A copy of the log")->required();
  verify->add_option("right", arguments.right, "Another one")->required();
  verify->add_flag("--bytes", arguments.bytes, "Read every byte, also where both have ledgers that say the same");
  verify->add_flag("--json", arguments.json, "Print JSON");
  verify->footer(
      "A copy is: a configuration file (a replica's log; a primary's pg_wal and ledgers), a replica's directory, a "
      "data\n"
      "directory or its pg_wal, an archive, or ledgers alone (DIRECTORY/ledger of a replica or of a primary's\n"
      "state_directory, copied from its host: 0.05 % of the log's size). Daemons and servers may run meanwhile.\n"
      "Examples:\n"
      "  slipstream verify /etc/slipstream/p1.toml /etc/slipstream/a.toml        both on this host\n"
      "  rsync -a p1:/var/lib/slipstream/p1/ledger/ /tmp/p1 && slipstream verify /tmp/p1 /var/lib/slipstream/a\n"
      "Exit codes: 0 all that both have is equal, 5 it is not, or there is nothing that both have.");
  verify->callback([&] { code = verify_command(arguments); });
}

void add_bench_lag(CLI::App& bench, BenchArguments& arguments, int& code) {
  auto& [config, directory, rates, sizes, seconds, idle, device, security, loss] = arguments.lag;
  CLI::App* lag =
      bench.add_subcommand("lag", "From a record's write to its acknowledgement at the primary, at paced loads");
  lag->add_option("-c,--config", config,
                  "A primary's file: send from here to a receiver started there. Without: both sides here");
  lag->add_option("--directory", directory, "Where WAL and log lie meanwhile")->capture_default_str();
  lag->add_option("--rate", rates, "Records a second")->capture_default_str()->check(CLI::Range(1.0, 1e7));
  lag->add_option("--size", sizes, "Bytes of a record")->capture_default_str()->check(CLI::Range(24, 1 << 20));
  lag->add_option("--seconds", seconds, "For each rate and size")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  lag->add_option("--idle", idle, "adaptive or spin, without -c")
      ->capture_default_str()
      ->check(CLI::IsMember({"adaptive", "spin"}));
  lag->add_option("--device", device, "What joins the two sides, without -c: memif, or the kernel over loopback")
      ->capture_default_str()
      ->check(CLI::IsMember({"memif", "kernel_udp"}));
  lag->add_option("--loss", loss,
                  "Lose that share of the frames to the receiver (with -c its [port.faults] does), and show apart what "
                  "was sent again; one record at a time, so at low rates")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  lag->add_option("--security", security, "sealed or plaintext, without -c")
      ->capture_default_str()
      ->check(CLI::IsMember({"sealed", "plaintext"}));
  lag->add_flag("--json", arguments.json, "As JSON");
  lag->footer("Example:\n  slipstream bench lag --rate 1000 20000 --size 200 8192 --idle spin");
  lag->callback([&] { code = bench_lag_command(arguments); });
}

void add_bench_linerate(CLI::App& bench, BenchArguments& arguments, int& code) {
  auto& [config, directory, mtus, sinks, sink, megabytes, rounds, idle, device, security] = arguments.linerate;
  CLI::App* line = bench.add_subcommand("linerate", "How much WAL a second goes through, beside the raw device");
  line->add_option("-c,--config", config,
                   "A primary's file: send from here to a receiver started there. Without: both sides here");
  line->add_option("--directory", directory, "Where the log of sink disk lies meanwhile")->capture_default_str();
  line->add_option("--mtu", mtus, "Frame sizes, without -c")->capture_default_str()->check(CLI::Range(1500, 9000));
  line->add_option("--sinks", sinks, "What becomes of the WAL, without -c: discard, memory, disk")
      ->capture_default_str()
      ->check(CLI::IsMember({"discard", "memory", "disk"}));
  line->add_option(
          "--sink", sink,
          "With -c: what that receiver does; raw sends raw frames to a raw receiver, tcp a stream to a tcp one")
      ->capture_default_str();
  line->add_option("--mb", megabytes, "WAL of each run, in MB")->capture_default_str()->check(CLI::Range(16, 65536));
  line->add_option("--rounds", rounds, "In turn; medians are shown")->capture_default_str()->check(CLI::Range(1, 1000));
  line->add_option("--idle", idle, "adaptive or spin, without -c")
      ->capture_default_str()
      ->check(CLI::IsMember({"adaptive", "spin"}));
  line->add_option("--device", device, "What joins the two sides, without -c: memif, or the kernel over loopback")
      ->capture_default_str()
      ->check(CLI::IsMember({"memif", "kernel_udp"}));
  line->add_option("--security", security, "sealed or plaintext, without -c")
      ->capture_default_str()
      ->check(CLI::IsMember({"sealed", "plaintext"}));
  line->add_flag("--json", arguments.json, "As JSON");
  line->footer("Example:\n  slipstream bench linerate --mtu 8900 --sinks memory disk --directory /var/lib/slipstream");
  line->callback([&] { code = bench_linerate_command(arguments); });
}

void add_bench_commit(CLI::App& bench, BenchArguments& arguments, int& code) {
  auto& [primary, beside, clients, levels, seconds, rounds] = arguments.commit;
  CLI::App* commit =
      bench.add_subcommand("commit", "Latency and rate of commits of a running server, level beside level");
  commit->add_option("--primary", primary, "Connection string; a table is made there and removed")->required();
  commit->add_option(
      "--beside", beside,
      "Connection string of another server to be measured in turn, such as one with PostgreSQL's own standbys");
  commit->add_option("--clients", clients, "At once")->capture_default_str()->check(CLI::Range(1, 1000));
  commit->add_option("--levels", levels, "Of synchronous_commit")
      ->capture_default_str()
      ->check(CLI::IsMember({"off", "local", "remote_write", "on", "remote_apply"}));
  commit->add_option("--seconds", seconds, "Of each measurement")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  commit->add_option("--rounds", rounds, "In turn; medians are shown")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  commit->add_flag("--json", arguments.json, "As JSON");
  commit->footer(
      "Example:\n  slipstream bench commit --primary 'host=/var/run/postgresql dbname=postgres' --levels local on "
      "--clients 1 16");
  commit->callback([&] { code = bench_commit_command(arguments); });
}

void add_bench_receive(CLI::App& bench, BenchArguments& arguments, int& code) {
  CLI::App* receive = bench.add_subcommand(
      "receive", "The other side of lag and linerate between two hosts, for one run; until it is interrupted");
  receive->add_option("-c,--config", arguments.config, "A replica's file")->required();
  receive
      ->add_option(
          "--sink", arguments.sink,
          "log: as replicas do, in replica.directory.bench; discard; raw: count raw frames; tcp: count a TCP stream")
      ->capture_default_str()
      ->check(CLI::IsMember({"log", "discard", "raw", "tcp"}));
  receive->footer(
      "Example, on the replica's host and then on the primary's:\n  slipstream bench receive -c a.toml\n  slipstream "
      "bench lag -c p1.toml");
  receive->callback([&] { code = bench_receive_command(arguments); });
}

void add_bench(CLI::App& app, BenchArguments& arguments, int& code) {
  CLI::App* bench = app.add_subcommand("bench", "What these ports, hosts and disks are good for");
  bench->require_subcommand(1);
  add_bench_commit(*bench, arguments, code);
  add_bench_lag(*bench, arguments, code);
  add_bench_linerate(*bench, arguments, code);
  add_bench_receive(*bench, arguments, code);
}

// The parser itself only says that a subcommand is required.
std::optional<Error> unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return std::nullopt;
  std::vector<std::string> known;
  for (const CLI::App* each : app.get_subcommands(nullptr)) known.push_back(each->get_name());
  if (std::ranges::find(known, argv[1]) != known.end()) return std::nullopt;
  const auto near = nearest(argv[1], known);
  return Error{ExitCode::kUsage, std::string("no such command: ") + argv[1], "",
               near ? "did you mean " + *near + "?" : "slipstream --help lists them"};
}

}  // namespace

int main_with(int argc, char** argv) {
  CLI::App app{"slipstream: synchronous PostgreSQL replicas over DPDK"};
  app.require_subcommand(1);
  app.footer(kExitCodes);
  int code = 0;
  RunArguments run;
  KeygenArguments keygen;
  InitStandbyArguments init;
  FenceArguments fence;
  AdoptLogArguments adopt;
  PromoteArguments promote;
  BypassArguments bypass;
  StatusArguments status;
  RestoreArguments restore;
  VerifyArguments verify;
  BenchArguments bench;
  std::string config, directory;
  bool connect = false, check = false, json = false;
  add_run(app, run, code);
  add_keygen(app, keygen, code);
  add_config(app, config, connect, code);
  add_init_standby(app, init, code);
  add_status(app, status, code);
  add_position(app, directory, check, json, code);
  add_fence(app, fence, code);
  add_adopt_log(app, adopt, code);
  add_promote(app, promote, code);
  add_bypass(app, bypass, code);
  add_bench(app, bench, code);
  const CLI::App* asked_to_restore = add_restore(app, restore, code);
  add_verify(app, verify, code);
  app.add_subcommand("version", "Print the version")->callback([&] { code = version_command(); });
  if (const auto problem = unknown_command(app, argc, argv)) return report_error(*problem);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    if (app.exit(problem) == 0) return 0;
    return asked_to_restore->parsed() ? kRestoreFailed : static_cast<int>(ExitCode::kUsage);
  }
  return code;
}

}  // namespace slipstream::app

int main(int argc, char** argv) {
  try {
    return slipstream::app::main_with(argc, argv);
  } catch (const std::exception& problem) {
    return slipstream::app::report_error({slipstream::ExitCode::kInternal, problem.what(), "", ""});
  }
}
