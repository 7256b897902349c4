#include "dataplane/eal.h"

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "base/nearest.h"
#include "dataplane/dpdk_log.h"
#include "dataplane/hugepages.h"
#include "dataplane/memif.h"
#include "dataplane/vdev.h"

namespace slipstream::dataplane {
namespace {

// DPDK pins the thread that starts it, and drivers may install signal handlers: both are put back.
class ProcessState {
 public:
  ProcessState() {
    affinity_known_ = sched_getaffinity(0, sizeof affinity_, &affinity_) == 0;
    for (int number = 1; number < kSignals; ++number)
      handled_[index(number)] = sigaction(number, nullptr, &handlers_[index(number)]) == 0;
  }
  ~ProcessState() {
    if (affinity_known_) sched_setaffinity(0, sizeof affinity_, &affinity_);
    for (int number = 1; number < kSignals; ++number)
      if (handled_[index(number)]) sigaction(number, &handlers_[index(number)], nullptr);
  }
  ProcessState(const ProcessState&) = delete;
  ProcessState& operator=(const ProcessState&) = delete;

 private:
  static constexpr int kSignals = 32;
  static std::size_t index(int number) { return static_cast<std::size_t>(number); }

  cpu_set_t affinity_{};
  bool affinity_known_ = false;
  std::array<struct sigaction, kSignals> handlers_{};
  std::array<bool, kSignals> handled_{};
};

int first_usable_core() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  int core = 0;
  while (core < CPU_SETSIZE && !CPU_ISSET(core, &set)) ++core;
  return core;
}

std::vector<std::string> arguments_of(const EalOptions& options, bool hugepages) {
  std::vector<std::string> out{"slipstream",
                               "--file-prefix",
                               options.file_prefix,
                               "--no-telemetry",
                               "--log-level",
                               "*:4",
                               "-m",
                               std::to_string(options.memory_mb)};
  // DPDK 22.11 takes --in-memory only with hugepages; without them --no-shconf leaves as little behind.
  if (hugepages)
    out.push_back("--in-memory");
  else
    out.insert(out.end(), {"--no-huge", "--no-shconf"});
  out.insert(out.end(), {"--lcores", "0@" + std::to_string(options.main_core.value_or(first_usable_core()))});
  if (options.pci.empty()) out.insert(out.end(), {"--no-pci", "--iova-mode", "va"});
  for (const std::string& address : options.pci) out.insert(out.end(), {"-a", address});
  return out;
}

Error error(std::string what, std::string where, std::string remedy) {
  return {ExitCode::kPort, std::move(what), std::move(where), std::move(remedy)};
}

std::expected<void, Error> check_driver(const Vdev& vdev) {
  const std::array<std::string, 8> known{"net_memif", "net_af_packet", "net_af_xdp", "net_ring",
                                         "net_null",  "net_pcap",      "net_tap",    "net_virtio_user"};
  if (std::ranges::find(known, vdev.driver()) != known.end()) return {};
  // DPDK knows more drivers; it was asked already and refused this one.
  const auto close = nearest(vdev.driver(), known);
  return std::unexpected(
      error("DPDK has no driver for \"" + vdev.name() + "\"" +
                (close ? ", did you mean \"" + *close + vdev.name().substr(vdev.driver().size()) + "\"?" : ""),
            "vdev " + vdev.name(),
            "a name is a driver and a number, such as net_memif0 or net_af_packet0; drivers are installed with DPDK "
            "(librte-net-*)"));
}

std::expected<void, Error> make_vdev(const Vdev& vdev) {
  if (is_memif(vdev))
    if (auto ready = prepare_memif(vdev); !ready) return ready;
  forget_dpdk_log();
  if (rte_eal_hotplug_add("vdev", vdev.name().c_str(), vdev.options().c_str()) == 0) return {};
  if (auto driver = check_driver(vdev); !driver) return driver;
  const std::string complaint = dpdk_complaint();
  return std::unexpected(
      error(complaint.empty() ? "the driver refused it" : complaint, "vdev " + vdev.name() + "," + vdev.options(),
            vdev.driver() == "net_af_packet" || vdev.driver() == "net_af_xdp"
                ? "check iface= (ip link lists interfaces) and run as root or with CAP_NET_RAW and CAP_NET_ADMIN"
                : "check the options; they are DPDK's, see its guide to network drivers"));
}

std::string hugepages_command(std::uint32_t memory_mb) {
  return "sysctl vm.nr_hugepages=" + std::to_string((memory_mb / 2 + 16));
}

std::expected<void, Error> init(const EalOptions& options, bool hugepages) {
  std::vector<std::string> arguments = arguments_of(options, hugepages);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  keep_dpdk_log();
  forget_dpdk_log();
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) >= 0) {
    // Empty, since nothing is shared with other processes.
    ::rmdir(rte_eal_get_runtime_dir());
    return {};
  }
  const int code = rte_errno;
  const std::string complaint = dpdk_complaint();
  const std::string why = std::string("DPDK does not start: ") + (complaint.empty() ? rte_strerror(code) : complaint);
  if (code == EALREADY) return std::unexpected(error(why, "this process", "DPDK starts once per process"));
  if (code == ENOMEM || code == EACCES)
    return std::unexpected(error(why, std::to_string(options.memory_mb) + (hugepages ? " MB in hugepages" : " MB"),
                                 hugepages ? "reserve more hugepages (" + hugepages_command(options.memory_mb) +
                                                 " for each daemon) or set runtime.hugepages = \"off\""
                                           : "free memory, or lower runtime.memory_mb"));
  return std::unexpected(error(why, "runtime",
                               "check runtime.core, runtime.memory_mb and runtime.file_prefix; a PCI device needs root "
                               "and an IOMMU or vfio's no-IOMMU mode"));
}

}  // namespace

std::expected<EalInfo, Error> start_eal(const EalOptions& options) {
  EalInfo info;
  const std::uint64_t free_mb = free_hugepages_mb();
  const bool enough = free_mb >= options.memory_mb;
  if (options.hugepages == Hugepages::kOn && !enough)
    return std::unexpected(error(
        "hugepages = \"on\", but only " + std::to_string(free_mb) + " MB of " + std::to_string(options.memory_mb) +
            " MB are free",
        "runtime.hugepages",
        "reserve more, for each daemon: " + hugepages_command(options.memory_mb) + "; or set hugepages = \"auto\""));
  info.hugepages = enough && options.hugepages != Hugepages::kOff;
  if (!enough && options.hugepages == Hugepages::kAuto)
    info.warning = "running without hugepages (" + std::to_string(free_mb) + " MB of " +
                   std::to_string(options.memory_mb) +
                   " MB are free): a packet's round trip costs about 1 us more; to use them, for each daemon: " +
                   hugepages_command(options.memory_mb);

  {
    const ProcessState kept;
    if (auto started = init(options, info.hugepages); !started) return std::unexpected(started.error());
    for (const std::string& vdev : options.vdevs)
      if (auto made = make_vdev(Vdev(vdev)); !made) return std::unexpected(made.error());
  }
  std::signal(SIGPIPE, SIG_IGN);
  return info;
}

void stop_eal() { rte_eal_cleanup(); }

}  // namespace slipstream::dataplane
