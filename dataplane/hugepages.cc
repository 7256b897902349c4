#include "dataplane/hugepages.h"

#include <cstdlib>
#include <fstream>
#include <string>

namespace slipstream::dataplane {

std::uint64_t free_hugepages_mb(const std::filesystem::path& directory) {
  std::uint64_t total_kb = 0;
  std::error_code problem;
  for (std::filesystem::directory_iterator entry(directory, problem), end; !problem && entry != end;
       entry.increment(problem)) {
    const std::string name = entry->path().filename().string();  // hugepages-2048kB
    std::uint64_t free = 0, reserved = 0;
    std::ifstream(entry->path() / "free_hugepages") >> free;
    std::ifstream(entry->path() / "resv_hugepages") >>
        reserved;  // Promised to mappings that have not touched them yet.
    const auto dash = name.find('-');
    if (dash != std::string::npos && free > reserved)
      total_kb += (free - reserved) * std::strtoull(name.c_str() + dash + 1, nullptr, 10);
  }
  return total_kb / 1024;
}

}  // namespace slipstream::dataplane
