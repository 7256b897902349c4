#include "dataplane/eal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace slipstream::dataplane {
namespace {

// Free hugepage memory in MB, over all sizes.
std::uint64_t free_hugepages_mb() {
  std::uint64_t total_kb = 0;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", problem)) {
    const std::string name = entry.path().filename().string();  // hugepages-2048kB
    std::uint64_t free = 0;
    std::ifstream(entry.path() / "free_hugepages") >> free;
    const auto dash = name.find('-');
    if (dash != std::string::npos) total_kb += free * std::strtoull(name.c_str() + dash + 1, nullptr, 10);
  }
  return total_kb / 1024;
}

std::string option_of(const std::string& vdev, const std::string& key) {
  const auto at = vdev.find("," + key + "=");
  if (at == std::string::npos) return "";
  const auto begin = at + key.size() + 2;
  return vdev.substr(begin, vdev.find(',', begin) - begin);
}

// A memif server cannot bind to a socket file that a killed one left behind.
void prepare_memif(const std::string& vdev) {
  const std::string path = option_of(vdev, "socket");
  if (!vdev.starts_with("net_memif") || path.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  if (option_of(vdev, "role") != "server" && option_of(vdev, "role") != "master") return;
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const bool alive = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  if (!alive) ::unlink(path.c_str());
}

std::vector<std::string> arguments_of(const EalOptions& options, bool hugepages) {
  std::vector<std::string> out{"slipstream", "--file-prefix", options.file_prefix, "--no-telemetry", "--log-level", "lib.*:3", "--log-level", "pmd.*:3"};
  // DPDK takes --in-memory only with hugepages; without them --no-shconf leaves as little behind.
  if (hugepages) out.insert(out.end(), {"--in-memory", "-m", std::to_string(options.memory_mb)});
  else out.insert(out.end(), {"--no-huge", "--no-shconf", "-m", std::to_string(options.memory_mb)});
  cpu_set_t set;
  CPU_ZERO(&set);
  int core = 0;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    while (core < CPU_SETSIZE && !CPU_ISSET(core, &set)) ++core;
  out.insert(out.end(), {"--lcores", "0@" + std::to_string(core)});
  if (options.pci.empty()) out.push_back("--no-pci");
  for (const std::string& address : options.pci) out.insert(out.end(), {"-a", address});
  for (const std::string& vdev : options.vdevs) out.insert(out.end(), {"--vdev", vdev});
  return out;
}

}  // namespace

std::expected<EalInfo, Error> start_eal(const EalOptions& options) {
  EalInfo info;
  const std::uint64_t free_mb = free_hugepages_mb();
  info.hugepages = options.hugepages == Hugepages::kOn || (options.hugepages == Hugepages::kAuto && free_mb >= options.memory_mb && ::geteuid() == 0);
  if (options.hugepages == Hugepages::kOn && free_mb == 0)
    return std::unexpected(Error{ExitCode::kPort, "hugepages = \"on\", but none are free", "runtime.hugepages", "reserve some: sysctl vm.nr_hugepages=256; or set hugepages = \"auto\""});
  if (!info.hugepages && options.hugepages == Hugepages::kAuto)
    info.warning = "running without hugepages: a packet's round trip costs about 1 us more; to use them: sysctl vm.nr_hugepages=" + std::to_string(options.memory_mb / 2 + 16) + " and run as root";
  for (const std::string& vdev : options.vdevs) prepare_memif(vdev);

  cpu_set_t affinity;
  const bool known = sched_getaffinity(0, sizeof affinity, &affinity) == 0;
  std::vector<std::string> arguments = arguments_of(options, info.hugepages);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  const int result = rte_eal_init(static_cast<int>(argv.size()), argv.data());
  if (known) sched_setaffinity(0, sizeof affinity, &affinity);
  if (result >= 0) return info;
  std::string devices;
  for (const std::string& vdev : options.vdevs) devices += (devices.empty() ? "" : ", ") + vdev.substr(0, vdev.find(','));
  for (const std::string& address : options.pci) devices += (devices.empty() ? "" : ", ") + address;
  return std::unexpected(Error{ExitCode::kPort, std::string("DPDK did not start: ") + rte_strerror(rte_errno), "ports " + devices,
                               "check the vdev strings (driver name and options) and PCI addresses (dpdk-devbind.py --status), the privileges of this user, and free memory"});
}

void stop_eal() { rte_eal_cleanup(); }

}  // namespace slipstream::dataplane
