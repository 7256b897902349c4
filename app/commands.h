#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/bench/bench.h"
#include "base/error.h"

// The subcommands. Each prints its result to standard output, and on failure one Error to standard error, and returns
// the exit code.
namespace slipstream::app {

struct RunArguments {
  std::string config;
  std::optional<std::uint32_t>
      claim_term;  // Operator's word that this state directory owns that term from now on (E1).
};

struct KeygenArguments {
  std::string file;
  bool cluster = false;  // The key that all hosts share, instead of this host's.
  bool show = false;     // The public key of one that is there.
  bool json = false;
};

struct StatusArguments {
  std::string config;
  std::string socket;
  bool json = false;
  std::optional<double> watch_seconds;  // Again and again, with this pause.
};

struct InitStandbyArguments {
  std::string config;
  std::string primary;        // conninfo of the primary
  std::string fallback_host;  // The standby streams from there while its feed is away; empty: from nowhere.
  std::uint16_t fallback_port = 5432;
  std::string pgdata;         // of the standby to be made
  bool keep_standby = false;  // It is there already; only the log is made.
  std::string slot = "slipstream";
  std::string user = "postgres";      // Who runs PostgreSQL's programs when we are root.
  int port = 0;                       // The standby's; 0: as copied.
  std::vector<std::string> settings;  // name=value for the standby's postgresql.auto.conf
};

struct FenceArguments {
  std::string config;  // Of the replica: its daemon, or its directory when that is stopped.
  std::string candidate;
  std::optional<std::uint32_t> term;  // Absent: one above the highest promised here.
  bool supersede = false;
  std::string output;  // File for the evidence; empty: standard output.
};

struct AdoptLogArguments {
  std::string config;    // Of the replica whose standby is to be promoted; its daemon is stopped.
  std::string from;      // Directory of the better log, or a copy of it.
  std::string evidence;  // What its replica answered to the fence; may be empty.
  bool json = false;
};

struct PromoteArguments {
  std::string config;
  std::vector<std::string> evidence;
  std::optional<std::uint32_t> term;
  bool sole_survivor = false;
  bool accept_loss = false;
  bool supersede = false;
  bool json = false;
  int timeout_seconds = 120;
  // After a promotion: members that were fenced since, or whose directories are gone for good.
  std::vector<std::string> fenced;     // Their evidence.
  std::vector<std::string> destroyed;  // Their names.
};

struct BypassArguments {
  std::string config;
  bool on = false;
  std::string reason;
  std::string names;   // synchronous_standby_names meanwhile.
  bool force = false;  // off: also while commits would wait.
  bool json = false;
};

struct RestoreArguments {
  std::string config;       // Or:
  std::string directory;    // of the replica.
  std::string name;         // restore_command's %f
  std::string destination;  // and its %p.
};

struct VerifyArguments {
  std::string left, right;  // Places where a log is, as LogCopy::open() takes them.
  bool bytes = false;       // Also where the ledgers agree.
  bool json = false;
};

int run_command(const RunArguments& arguments);
int config_check_command(const std::string& config, bool connect);
int init_standby_command(const InitStandbyArguments& arguments);
int status_command(const StatusArguments& arguments);
int position_command(const std::string& directory, bool check, bool json);
int fence_command(const FenceArguments& arguments);
int adopt_log_command(const AdoptLogArguments& arguments);
int promote_command(const PromoteArguments& arguments);
int restore_command(const RestoreArguments& arguments);
int verify_command(const VerifyArguments& arguments);
int bypass_command(const BypassArguments& arguments);
int keygen_command(const KeygenArguments& arguments);
int version_command();

// `slipstream bench`.
struct BenchArguments {
  bench::LagArguments lag;
  bench::LinerateArguments linerate;
  bench::CommitArguments commit;
  std::string config;  // Of the receiver.
  std::string sink = "log";
  bool json = false;
};
int bench_lag_command(const BenchArguments& arguments);
int bench_linerate_command(const BenchArguments& arguments);
int bench_commit_command(const BenchArguments& arguments);
int bench_receive_command(const BenchArguments& arguments);

// True from the first SIGTERM or SIGINT after this call on.
const std::atomic<bool>& stop_on_signals();

// Prints the error to standard error, "slipstream: " before it, and returns its exit code.
int report_error(const Error& error);

}  // namespace slipstream::app
