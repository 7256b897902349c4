#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace slipstream::dataplane {

enum class Hugepages : std::uint8_t { kAuto, kOn, kOff };

struct EalOptions {
  std::string file_prefix;
  Hugepages hugepages = Hugepages::kAuto;
  std::uint32_t memory_mb = 128;
  std::vector<std::string> vdevs;  // DPDK's --vdev strings.
  std::vector<std::string> pci;    // Addresses to allow, as find_device() has them; empty: no PCI device is touched.
  std::optional<int> main_core;    // The data thread's, which DPDK's own threads then avoid. Absent: the first usable
                                   // one, and nothing is pinned.
};

struct EalInfo {
  bool hugepages = false;
  std::string warning;  // For people; empty when all is well.
};

// Starts DPDK's environment and makes its devices, once per process.
// Guarantees: (1) Nothing is left behind on disk, also after SIGKILL, but for a memif server's socket file, which the
// next start removes. (2) The calling thread's affinity and
//   the process's signal handlers are as before, except that SIGPIPE is ignored: memif's sockets raise it. (3) DPDK
//   prints nothing itself. (4) Errors (kPort) name the device, or the memory, and what to do about it.
// Hugepages are used when at least memory_mb are free (kAuto); otherwise the warning names what that costs and the
// command that reserves them.
std::expected<EalInfo, Error> start_eal(const EalOptions& options);
void stop_eal();

}  // namespace slipstream::dataplane
