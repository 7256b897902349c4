#pragma once

#include <string>
#include <utility>

namespace slipstream {

// The documented exit codes of every subcommand (docs/operations.md).
enum class ExitCode : int {
  kOk = 0,
  kInternal = 1,       // Our own mistake, or something unforeseen.
  kUsage = 2,          // The command line.
  kConfiguration = 3,  // The configuration file.
  kDatabase = 4,       // PostgreSQL: unreachable, refused us, or is set up unsuitably.
  kDirectory = 5,      // A WAL, replica or state directory: missing, not one, of another cluster, in use.
  kPort = 6,           // DPDK, a port, memory for it.
  kRefused = 7,        // A safety rule forbids it (fence, promote, policy).
  kUnreachable = 8,    // The daemon's control socket does not answer.
  kStorage = 9,        // Durability was lost: a durable write failed.
};

// Something a person must read: what happened, where, and what to do about it. Logged once, where it is handled.
struct Error {
  ExitCode code = ExitCode::kInternal;
  std::string what;
  std::string where;   // A file and line, a key, a connection, a position. May be empty.
  std::string remedy;  // What to do. May be empty.

  std::string message() const {
    std::string text = where.empty() ? what : where + ": " + what;
    return remedy.empty() ? text : text + "\n  to do: " + remedy;
  }
};

}  // namespace slipstream
