#pragma once

#include <cstdint>
#include <filesystem>

namespace slipstream::dataplane {

// Free memory in reserved hugepages of all sizes, in MB; 0 when the kernel has none.
std::uint64_t free_hugepages_mb(const std::filesystem::path& directory = "/sys/kernel/mm/hugepages");

}  // namespace slipstream::dataplane
