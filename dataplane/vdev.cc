#include "dataplane/vdev.h"

#include <algorithm>
#include <numeric>

namespace slipstream::dataplane {
namespace {

// Calls `see` with each "key=value" (or "key") between commas until it returns false.
template <class See>
void each_option(std::string_view options, See see) {
  while (!options.empty()) {
    const std::string_view one = options.substr(0, options.find(','));
    options.remove_prefix(std::min(options.size(), one.size() + 1));
    const auto equals = one.find('=');
    if (!see(one.substr(0, equals), equals == std::string_view::npos ? std::string_view{} : one.substr(equals + 1)))
      return;
  }
}

}  // namespace

Vdev::Vdev(std::string_view text) : name_(text.substr(0, text.find(','))) {
  if (text.size() > name_.size()) options_ = text.substr(name_.size() + 1);
}

std::string Vdev::driver() const { return name_.substr(0, name_.find_last_not_of("0123456789") + 1); }

std::optional<std::string> Vdev::option(std::string_view key) const {
  std::optional<std::string> found;
  each_option(options_, [&](std::string_view name, std::string_view value) {
    if (name == key) found = value;
    return !found;
  });
  return found;
}

std::vector<std::string> Vdev::keys() const {
  std::vector<std::string> out;
  each_option(options_, [&](std::string_view name, std::string_view) {
    out.emplace_back(name);
    return true;
  });
  return out;
}

std::string af_packet_frames(std::size_t packet_bytes) {
  constexpr std::size_t kAlignment = 128, kLeast = 2048, kPage = 4096;  // The alignment keeps blocks to 32 frames.
  const std::size_t needed = packet_bytes + kAfPacketHeadBytes;
  const std::size_t frame_bytes = std::max(kLeast, (needed + kAlignment - 1) / kAlignment * kAlignment);
  return "framesz=" + std::to_string(frame_bytes) + ",blocksz=" + std::to_string(std::lcm(frame_bytes, kPage));
}

}  // namespace slipstream::dataplane
