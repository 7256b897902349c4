#pragma once

#include <cstdint>
#include <expected>
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
  std::vector<std::string> pci;    // Addresses to allow; empty: no PCI device is touched.
};

struct EalInfo {
  bool hugepages = false;
  std::string warning;  // For people; empty when all is well.
};

// Starts DPDK's environment, once per process, leaving nothing behind on disk (--in-memory). Restores this thread's affinity. Removes a stale memif socket of a server vdev.
// Errors (kPort) say which device or which memory, and what to do.
std::expected<EalInfo, Error> start_eal(const EalOptions& options);
void stop_eal();

}  // namespace slipstream::dataplane
