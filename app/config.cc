#include "app/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "ack/policy.h"
#include "app/toml_reader.h"
#include "base/nearest.h"
#include "dataplane/ipv4.h"
#include "protocol/frame.h"

namespace slipstream::app {
namespace {

template <class T>
void read_number(TomlReader& reader, const std::string& key, std::int64_t least, std::int64_t most, T& out) {
  std::int64_t value = static_cast<std::int64_t>(out);
  reader.number(key, least, most, value);
  out = static_cast<T>(value);
}

void read_role(TomlReader& reader, Role& out) {
  std::string role = out == Role::kPrimary ? "primary" : "replica";
  reader.choice("role", {"primary", "replica"}, role);
  out = role == "primary" ? Role::kPrimary : Role::kReplica;
}

bool is_ipv4(const std::string& text) { return dataplane::parse_ipv4(text).has_value(); }

void read_primary(TomlReader& reader, PrimaryConfig& out) {
  reader.required_text("conninfo", out.conninfo);
  reader.required_text("state_directory", out.state_directory);
  reader.text("application_name", out.application_name);
  reader.text("slot", out.slot);
  reader.text("wal_directory", out.wal_directory);
  reader.text("restore_command", out.restore_command);
  if (const std::string& command = out.restore_command;
      !command.empty() && (command.find("%f") == std::string::npos || command.find("%p") == std::string::npos))
    reader.fail("restore_command", "primary.restore_command does not say which segment it wants, or where to put it",
                "use %f for the segment's name and %p for the path, as in PostgreSQL's restore_command");
  reader.choice("ship", {"flushed", "written"}, out.ship);
  if (reader.has("catch_up_rate")) reader.size("catch_up_rate", out.catch_up_rate.emplace());
  if (!reader.has("slow_backlog")) return;
  reader.size("slow_backlog", out.slow_backlog.emplace());
  if (out.slow_backlog->value < (std::uint64_t{1} << 20))
    reader.fail("slow_backlog", "primary.slow_backlog is less than 1MB",
                "every replica is that far behind at times (default: runtime.ring)");
}

void read_feed(TomlReader& reader, FeedConfig& out) {
  reader.required_text("socket_directory", out.socket_directory);
  read_number(reader, "port", 1, 65535, out.port);
  reader.texts("allow_users", out.allow_users);
  read_number(reader, "gather_ms", 0, 1000, out.gather_ms);
}

void read_replica(TomlReader& reader, ReplicaConfig& out) {
  reader.required_text("directory", out.directory);
  reader.text("standby_conninfo", out.standby_conninfo);
  reader.flag("log_only", out.log_only);
  reader.size("keep", out.keep);
  if (reader.has("keep_max")) reader.size("keep_max", out.keep_max);
  if (out.keep_max.value != 0 && out.keep_max.value / 2 < out.keep.value)
    reader.fail("keep_max", "replica.keep_max is less than twice replica.keep",
                "keep is what is kept also behind the standby, keep_max the size at which the replica takes no more "
                "(default: no bound)");
  const bool feed = reader.table("feed", [&](TomlReader& sub) { read_feed(sub, out.feed); });
  if (!feed && !out.log_only)
    reader.fail("feed", "a replica with a standby needs [replica.feed]", "add it, or set log_only = true");
}

void read_runtime(TomlReader& reader, RuntimeConfig& out) {
  reader.choice("hugepages", {"auto", "on", "off"}, out.hugepages);
  read_number(reader, "memory_mb", 32, 65536, out.memory_mb);
  reader.text("file_prefix", out.file_prefix);
  if (reader.has("core")) {
    out.core = 0;
    read_number(reader, "core", 0, 1023, *out.core);
  }
  reader.choice("idle", {"adaptive", "spin"}, out.idle);
  reader.size("ring", out.ring);
  if (!std::has_single_bit(out.ring.value) || out.ring.value < (4u << 20) || out.ring.value > (std::uint64_t{1} << 30))
    reader.fail("ring", "runtime.ring must be a power of two from 4MB to 1GB");
  reader.text("control_socket", out.control_socket);
}

void read_faults(TomlReader& reader, FaultConfig& out) {
  reader.probability("loss", out.loss);
  reader.probability("duplicate", out.duplicate);
  reader.probability("reorder", out.reorder);
  reader.probability("corrupt", out.corrupt);
  read_number(reader, "seed", 0, INT64_MAX, out.seed);
}

// The port's own address, the way out of its network, its VLAN.
void read_network(TomlReader& reader, PortConfig& out) {
  reader.required_text("address", out.address);
  reader.text("gateway", out.gateway);
  if (reader.has("vlan")) read_number(reader, "vlan", 1, 4094, out.vlan);
  const auto prefix = dataplane::parse_ipv4_prefix(out.address);
  if (!prefix) {
    if (!out.address.empty())
      reader.fail("address", fmt::format("\"{}\" is no IPv4 address", out.address),
                  "write it as 10.0.0.1, or with its network's prefix length as 10.0.0.1/24");
    return;
  }
  if (out.kernel_udp && (!out.gateway.empty() || out.vlan))
    reader.fail(
        out.vlan ? "vlan" : "gateway",
        fmt::format("port \"{}\" is the kernel's UDP: the kernel routes and tags by its own settings", out.name),
        "use ip route, and ip link add link eth1 name eth1.42 type vlan id 42");
  if (out.gateway.empty()) return;
  const auto gateway = dataplane::parse_ipv4(out.gateway);
  if (!gateway)
    reader.fail("gateway", fmt::format("\"{}\" is no IPv4 address", out.gateway));
  else if (prefix->bits == 0)
    reader.fail("gateway", fmt::format("port \"{}\" has a gateway, and its address no prefix length", out.name),
                fmt::format("write address = \"{}/24\", or whatever its network is", out.address));
  else if (*gateway == prefix->address)
    reader.fail("gateway", fmt::format("the gateway of port \"{}\" is its own address", out.name));
  else if (prefix->bits < 32 && !prefix->contains(*gateway))  // Clouds give hosts a /32 and a gateway beside it.
    reader.fail("gateway", fmt::format("the gateway {} is not in {}, so nothing reaches it", out.gateway, out.address),
                "correct it, or the prefix length");
}

void read_port(TomlReader& reader, PortConfig& out) {
  reader.required_text("name", out.name);
  reader.text("vdev", out.vdev);
  reader.text("pci", out.pci);
  reader.text("mac", out.mac);
  reader.text("interface", out.interface);
  reader.flag("kernel_udp", out.kernel_udp);
  read_number(reader, "mtu", 576, 9600, out.mtu);
  std::string offloads = "auto";
  reader.choice("offloads", {"auto", "none"}, offloads);
  out.use_offloads = offloads == "auto";
  if (out.kernel_udp && !out.use_offloads)
    reader.fail("offloads", fmt::format("port \"{}\" is the kernel's UDP, which has no device of its own", out.name),
                "use ethtool -K on the interface");
  read_network(reader, out);
  reader.table("faults", [&](TomlReader& sub) { read_faults(sub, out.faults.emplace()); });
  const int ways = !out.vdev.empty() + !out.pci.empty() + !out.mac.empty() + !out.interface.empty() + out.kernel_udp;
  if (ways != 1)
    reader.fail(
        "name",
        fmt::format("port \"{}\" must be named by exactly one of vdev, pci, mac, interface, kernel_udp", out.name),
        "devices are never chosen by index; `dpdk-devbind.py --status` lists PCI addresses; kernel_udp = true "
        "needs no device");
}

void read_seal(TomlReader& reader, SealConfig& out) {
  reader.required_text("host_key", out.host_key);
  reader.required_text("cluster_key", out.cluster_key);
  read_number(reader, "rekey_packets", 100, std::int64_t{1} << 23, out.rekey_packets);
  std::string data_key = "group";
  reader.choice("data_key", {"group", "per_replica"}, data_key);
  out.data_per_replica = data_key == "per_replica";
}

void read_public_key(TomlReader& reader, NodeConfig& out) {
  std::string text;
  reader.text("public_key", text);
  if (text.empty()) return;
  if (auto key = seal::parse_key(text))
    out.public_key = *key;
  else
    reader.fail("public_key", fmt::format("public_key of node \"{}\": {}", out.name, key.error()),
                "slipstream keygen --show KEYFILE prints it, on that node's host");
}

void read_node(TomlReader& reader, NodeConfig& out) {
  reader.required_text("name", out.name);
  read_number(reader, "number", 1, 65534, out.number.value);
  if (!reader.has("number"))
    reader.fail("name", "node.number is missing", "give every node a stable number of its own");
  read_role(reader, out.role);
  reader.required_text("address", out.address);
  read_number(reader, "udp_port", 1, 65535, out.udp_port);
  reader.text("via", out.via);
  reader.text("mac", out.mac);
  reader.flag("shared_link", out.limits.shared_link);
  if (reader.has("max_rate")) reader.size("max_rate", out.limits.rate_max.emplace());
  if (out.limits.rate_max && out.limits.rate_max->value < 64 * 1024)
    reader.fail("max_rate", "node.max_rate is less than 64kB a second", "leave it out for no cap");
  read_public_key(reader, out);
  if (!out.address.empty() && !is_ipv4(out.address))
    reader.fail("address", fmt::format("\"{}\" is no IPv4 address", out.address));
}

// Why `node` cannot be reached over `port`, if it cannot.
std::optional<std::string> unreachable(const NodeConfig& node, const PortConfig& port) {
  const auto prefix = dataplane::parse_ipv4_prefix(port.address);
  const auto address = dataplane::parse_ipv4(node.address);
  if (port.kernel_udp || !port.gateway.empty() || !prefix || !address || prefix->contains(*address))
    return std::nullopt;
  return fmt::format("node \"{}\" ({}) is not in {}, the network of port \"{}\", and that has no gateway", node.name,
                     node.address, port.address, port.name);
}

// What ties the parts together. Each problem is reported against the file as a whole unless it has a place.
std::optional<Error> check_whole(const Config& config) {
  const auto error = [&](std::string what, std::string remedy = "") {
    return Error{ExitCode::kConfiguration, std::move(what), config.path, std::move(remedy)};
  };
  std::set<std::string> names, ports;
  std::set<std::uint16_t> numbers;
  std::vector<std::string> port_names;
  for (const PortConfig& port : config.ports) {
    if (!ports.insert(port.name).second) return error(fmt::format("two ports are called \"{}\"", port.name));
    port_names.push_back(port.name);
  }
  std::vector<std::string> node_names;
  for (const NodeConfig& node : config.nodes) {
    if (!names.insert(node.name).second) return error(fmt::format("two nodes are called \"{}\"", node.name));
    if (!numbers.insert(node.number.value).second)
      return error(fmt::format("two nodes have the number {}", node.number.value));
    node_names.push_back(node.name);
  }
  if (!names.contains(config.name)) {
    const auto near = nearest(config.name, node_names);
    return error(fmt::format("name = \"{}\" is none of the [[node]] entries", config.name),
                 near ? fmt::format("did you mean \"{}\"?", *near) : "add a [[node]] for this host");
  }
  if (config.self().role != config.role)
    return error(fmt::format("role differs from the role of [[node]] \"{}\"", config.name));
  for (const NodeConfig& node : config.nodes) {
    const bool needed = node.name != config.name && node.role != config.role;
    if (needed && !ports.contains(node.via)) {
      const auto near = nearest(node.via, port_names);
      return error(fmt::format("node \"{}\" is reached via \"{}\", which is no [[port]] here", node.name, node.via),
                   near ? fmt::format("did you mean \"{}\"?", *near) : "name one of this file's ports in via");
    }
    if (needed)
      if (const auto why = unreachable(node, *std::ranges::find(config.ports, node.via, &PortConfig::name)))
        return error(*why, "give the port gateway = \"…\", the router's address in its network");
    if (needed && config.sealed && !node.public_key)
      return error(fmt::format("node \"{}\" has no public_key, and frames are sealed", node.name),
                   "on its host: slipstream keygen --show KEYFILE");
  }
  const auto primaries = std::count_if(config.nodes.begin(), config.nodes.end(),
                                       [](const NodeConfig& node) { return node.role == Role::kPrimary; });
  if (primaries != 1)
    return error(fmt::format("there must be exactly one [[node]] with role = \"primary\", not {}", primaries));
  if (config.replicas().size() > 8) return error("at most 8 replicas are supported");
  protocol::PolicyUpdate update{UINT64_MAX, config.policy, {}};
  for (const NodeConfig* node : config.replicas()) update.members.push_back({node->name, node->number, {}});
  if (!protocol::fits(update))
    return error("the policy and the replicas' names together are too long for one frame", "use shorter names");
  std::vector<ack::Member> members;
  for (const NodeConfig* node : config.replicas()) members.push_back({node->number, node->name});
  if (const auto policy = ack::Policy::parse(config.policy, members); !policy) {
    Error problem = policy.error();
    problem.code = ExitCode::kConfiguration;
    problem.where = config.path + ": policy.commit" + (problem.where.empty() ? "" : ", " + problem.where);
    return problem;
  }
  return std::nullopt;
}

}  // namespace

const NodeConfig& Config::self() const {
  return *std::find_if(nodes.begin(), nodes.end(), [&](const NodeConfig& node) { return node.name == name; });
}

std::vector<const NodeConfig*> Config::replicas() const {
  std::vector<const NodeConfig*> out;
  for (const NodeConfig& node : nodes)
    if (node.role == Role::kReplica) out.push_back(&node);
  return out;
}

const NodeConfig* Config::primary_node() const {
  for (const NodeConfig& node : nodes)
    if (node.role == Role::kPrimary) return &node;
  return nullptr;
}

std::expected<ByteCount, std::string> parse_size(std::string_view text) {
  const std::string original(text);
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const int shift = unit.empty() || unit == "B" ? 0
                    : unit == "kB"              ? 10
                    : unit == "MB"              ? 20
                    : unit == "GB"              ? 30
                    : unit == "TB"              ? 40
                                                : -1;
  if (problem != std::errc{} || shift < 0 || (shift > 0 && value >> (63 - shift)))
    return std::unexpected(
        fmt::format("\"{}\" is no size; write a whole number and one of B, kB, MB, GB, TB", original));
  return ByteCount{value << shift};
}

std::expected<Config, Error> parse_config(std::string_view text, const std::string& path) {
  Config config;
  config.path = path;
  std::optional<Error> problem;
  try {
    const toml::table root = toml::parse(text, path);
    TomlReader reader(root, path, "", problem);
    reader.required_text("name", config.name);
    if (!reader.has("role")) reader.fail("role", "role is missing", "write role = \"primary\" or role = \"replica\"");
    read_role(reader, config.role);
    std::string security = "sealed";
    reader.choice("security", {"sealed", "plaintext"}, security);
    config.sealed = security != "plaintext";
    const bool seal = reader.table("seal", [&](TomlReader& sub) { read_seal(sub, config.seal); });
    if (config.sealed && !seal)
      reader.fail("security", "frames are sealed, and [seal] with the keys is missing",
                  "add [seal] with host_key and cluster_key (slipstream keygen makes them), or write  security = "
                  "\"plaintext\"  if the network is yours alone");
    reader.table("policy", [&](TomlReader& sub) { sub.text("commit", config.policy); });
    const bool primary = reader.table("primary", [&](TomlReader& sub) { read_primary(sub, config.primary); });
    const bool replica = reader.table("replica", [&](TomlReader& sub) { read_replica(sub, config.replica); });
    if (config.role == Role::kPrimary && !primary) reader.fail("role", "role = \"primary\" needs a [primary] table");
    if (config.role == Role::kReplica && !replica) reader.fail("role", "role = \"replica\" needs a [replica] table");
    reader.table("runtime", [&](TomlReader& sub) { read_runtime(sub, config.runtime); });
    reader.tables("port", [&](TomlReader& sub) { read_port(sub, config.ports.emplace_back()); });
    reader.tables("node", [&](TomlReader& sub) { read_node(sub, config.nodes.emplace_back()); });
    reader.finish();
  } catch (const toml::parse_error& syntax) {
    const auto& place = syntax.source().begin;
    return std::unexpected(Error{ExitCode::kConfiguration, std::string(syntax.description()),
                                 fmt::format("{}:{}:{}", path, place.line, place.column), "mend the TOML there"});
  }
  if (!problem) problem = check_whole(config);
  if (problem) return std::unexpected(*problem);
  if (config.runtime.control_socket.empty()) config.runtime.control_socket = "/run/slipstream/" + config.name + ".sock";
  if (config.runtime.file_prefix.empty()) config.runtime.file_prefix = "slipstream-" + config.name;
  return config;
}

std::expected<Config, Error> load_config(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) {
    return std::unexpected(Error{ExitCode::kConfiguration, std::strerror(errno), path,
                                 "name an existing, readable file with -c; configs/ has examples"});
  }
  return parse_config(content.str(), path);
}

}  // namespace slipstream::app
