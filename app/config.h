#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "protocol/rate_control.h"
#include "seal/session.h"

namespace slipstream::app {

enum class Role : std::uint8_t { kPrimary, kReplica };

struct FaultConfig {  // [port.faults]: probabilities per frame, for tests on the real path.
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;
  double corrupt = 0;
  std::uint64_t seed = 1;
};

struct PortConfig {  // [[port]]: one DPDK device, named by exactly one of vdev, pci, mac, interface; or the
                     // kernel's UDP.
  std::string name;
  std::string vdev;
  std::string pci;
  std::string mac;
  std::string interface;
  bool kernel_udp = false;
  std::uint32_t mtu = 1500;
  std::string address;  // Local IPv4, perhaps with a prefix length: "10.0.0.1/24".
  std::string gateway;  // To peers outside that prefix; only with a length. Not on kernel UDP, nor is vlan.
  std::uint16_t vlan = 0;
  bool use_offloads = true;  // offloads = "auto"; "none": software does all, whatever the device offers.
  std::optional<FaultConfig> faults;

  std::string bare_address() const { return address.substr(0, address.find('/')); }
};

struct NodeConfig {  // [[node]]: this node and its peers.
  std::string name;
  NodeId number;
  Role role = Role::kReplica;
  std::string address;
  std::uint16_t udp_port = 7650;
  std::string via;              // The local port it is reached through; empty for this node itself.
  std::string mac;              // Learnt when empty.
  protocol::RateLimits limits;  // Of what a primary sends to it.
  std::optional<seal::PublicKey> public_key;
};

struct SealConfig {      // [seal]
  std::string host_key;  // Files, made by `slipstream keygen`.
  std::string cluster_key;
  std::uint64_t rekey_packets = seal::kRekeyPackets;
  bool data_per_replica = false;  // The primary's: data is not sealed once for all.
};

struct PrimaryConfig {
  std::string conninfo;
  std::string application_name = "slipstream";
  std::string slot = "slipstream";
  std::string state_directory;
  std::string wal_directory;     // Empty: PostgreSQL's data_directory/pg_wal.
  std::string restore_command;   // Brings back what replicas need and pg_wal no longer has. Empty: nothing does.
  std::string ship = "flushed";  // Or "written": WAL goes out before PostgreSQL has flushed it.
  std::optional<ByteCount> catch_up_rate;  // A second, while no commit waits for it; 0: no limit. Absent: found.
  std::optional<ByteCount> slow_backlog;   // A replica further behind is served from files. Absent: the ring's size.
};

struct FeedConfig {
  std::string socket_directory;
  std::uint16_t port = 5433;
  std::vector<std::string> allow_users{"postgres"};
  std::uint16_t gather_ms = 10;
};

struct ReplicaConfig {
  std::string directory;                   // Holds wal/ and the state file.
  std::string standby_conninfo;            // The standby beside it: promotion asks it to promote.
  bool log_only = false;                   // Keeps the log, has no standby.
  ByteCount keep{std::uint64_t{1} << 30};  // WAL kept at least, beyond what the standby needs.
  ByteCount keep_max{};                    // The log takes no more at this size; 0: no bound.
  FeedConfig feed;
};

struct RuntimeConfig {
  std::string hugepages = "auto";           // auto | on | off
  std::uint32_t memory_mb = 128;            // DPDK's.
  std::string file_prefix;                  // Empty: slipstream-NAME.
  std::optional<int> core;                  // The data thread's; free when absent.
  std::string idle = "adaptive";            // adaptive | spin
  ByteCount ring{std::uint64_t{16} << 20};  // Memory for WAL in flight: a power of two of at least 4 MiB.
  std::string control_socket;               // Empty: /run/slipstream/NAME.sock
};

struct Config {
  std::string path;
  std::string name;
  Role role = Role::kReplica;
  bool sealed = true;
  SealConfig seal;
  std::string policy;
  PrimaryConfig primary;
  ReplicaConfig replica;
  RuntimeConfig runtime;
  std::vector<PortConfig> ports;
  std::vector<NodeConfig> nodes;

  const NodeConfig& self() const;
  std::vector<const NodeConfig*> replicas() const;  // In the file's order.
  const NodeConfig* primary_node() const;
};

// Reads and checks a configuration file. Errors (kConfiguration) carry file:line:column and, for unknown keys, the
// nearest known one.
std::expected<Config, Error> load_config(const std::string& path);
std::expected<Config, Error> parse_config(std::string_view text, const std::string& path);

// "64MB", "1 GB", "8192" (bytes); units kB, MB, GB are powers of 1024, as in postgresql.conf.
std::expected<ByteCount, std::string> parse_size(std::string_view text);

}  // namespace slipstream::app
