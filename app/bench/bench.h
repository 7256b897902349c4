#pragma once

#include <atomic>
#include <expected>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/control.h"
#include "base/error.h"

// `slipstream bench`: what a user's own ports, hosts and disks are good for. Each benchmark prints a table, or with
// --json an object {benchmark, machine, configuration, results, goals}. Without a configuration the two sides are two
// processes of this host, joined by memif or the kernel.
namespace slipstream::app::bench {

struct LagArguments {
  std::string config;  // The sending side's, a primary's; empty: both sides here.
  std::string directory = "/tmp";
  std::vector<double> rates{100, 1000, 10000};      // Records a second.
  std::vector<std::size_t> sizes{200, 1024, 8192};  // Bytes of each.
  double seconds = 3;                               // For each pair of those.
  std::string idle = "adaptive";
  std::string device = "memif";  // Or kernel_udp, over loopback. Without a configuration.
  std::string security = "plaintext";
  double loss = 0;  // Of the frames to the receiver; what had to be sent again is shown apart.
};

struct LinerateArguments {
  std::string config;
  std::string directory = "/tmp";
  std::vector<unsigned> mtus{1500, 8900};
  std::vector<std::string> sinks{"discard", "memory", "disk"};
  std::string sink = "discard";  // With a configuration: what the receiver does, for the table.
  unsigned megabytes = 1024;
  unsigned rounds = 3;
  std::string idle = "spin";
  std::string device = "memif";  // As above; beside kernel_udp the kernel's TCP is shown, too.
  std::string security = "plaintext";
};

struct CommitArguments {
  std::string primary;  // Connection strings.
  std::string beside;
  std::vector<unsigned> clients{1, 4, 16};
  std::vector<std::string> levels{"local", "remote_write", "on"};
  double seconds = 4;
  unsigned rounds = 5;
};

std::expected<Json, Error> lag(const LagArguments& arguments);
std::expected<Json, Error> linerate(const LinerateArguments& arguments);
std::expected<Json, Error> commit(const CommitArguments& arguments);

// The other side of `lag` and `linerate`, until `stop`. `sink`: "log" writes a log as replicas do, in
// replica.directory.bench; "discard" calls everything durable at once; "raw" counts the frames of a raw sender;
// "tcp" counts what comes over TCP instead.
std::expected<void, Error> receive(const Config& config, const std::string& sink, const std::atomic<bool>& stop);

// Frames as fast as the port takes them, nothing else. The receiver prints {bytes, frames, seconds} when it is stopped.
std::expected<void, Error> receive_raw(const Config& config, const std::atomic<bool>& stop);
std::expected<void, Error> send_raw(const Config& config, double for_seconds);
// One TCP connection between the same addresses, for comparison: what the kernel does best. Prints {bytes, seconds}.
std::expected<void, Error> receive_tcp(const Config& config, const std::atomic<bool>& stop);
std::expected<void, Error> send_tcp(const Config& config, double for_seconds);

}  // namespace slipstream::app::bench
