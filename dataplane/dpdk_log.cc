#include "dataplane/dpdk_log.h"

#include <rte_log.h>
#include <stdio.h>

#include <mutex>
#include <string_view>

namespace slipstream::dataplane {
namespace {

constexpr std::size_t kKeptMax = 8192;

struct Kept {
  std::mutex mutex;  // DPDK's interrupt thread logs too.
  std::string text;
};

Kept& kept() {
  static Kept* const instance = new Kept;  // Threads of DPDK's outlive static objects.
  return *instance;
}

ssize_t append(void*, const char* text, std::size_t bytes) {
  const std::scoped_lock lock(kept().mutex);
  if (kept().text.size() + bytes <= kKeptMax) kept().text.append(text, bytes);
  return static_cast<ssize_t>(bytes);
}

// "memif_set_role(): Unknown role: x." -> "Unknown role: x"
std::string_view without_decoration(std::string_view line) {
  const auto name = line.find("(): ");
  if (name != std::string_view::npos && line.find(' ') > name) line.remove_prefix(name + 4);
  while (!line.empty() && (line.back() == '.' || line.back() == ' ')) line.remove_suffix(1);
  return line;
}

}  // namespace

void keep_dpdk_log() {
  static FILE* stream = nullptr;
  if (stream) return;
  cookie_io_functions_t functions{};
  functions.write = append;
  stream = fopencookie(nullptr, "w", functions);
  if (stream) rte_openlog_stream(stream);
}

void forget_dpdk_log() {
  const std::scoped_lock lock(kept().mutex);
  kept().text.clear();
}

std::string dpdk_complaint() {
  const std::scoped_lock lock(kept().mutex);
  std::string_view rest = kept().text, first;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.empty()) continue;
    if (!line.starts_with("EAL: ")) return std::string(without_decoration(line));
    if (first.empty()) first = line.substr(5);
  }
  return std::string(without_decoration(first));
}

}  // namespace slipstream::dataplane
