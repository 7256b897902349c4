#include "base/ids.h"

#include <charconv>
#include <cstdio>

namespace slipstream {

std::string to_string(Epoch epoch) { return std::to_string(epoch.term) + "." + std::to_string(epoch.incarnation); }

std::string to_string(const Random128& bits) {
  char text[40];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(bits.high),
                static_cast<unsigned long long>(bits.low));
  return text;
}

std::optional<Random128> parse_random128(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  Random128 bits;
  const auto half = [](std::string_view digits, std::uint64_t& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out, 16);
    return error == std::errc{} && end == digits.data() + digits.size();
  };
  if (!half(text.substr(0, 16), bits.high) || !half(text.substr(16), bits.low)) return std::nullopt;
  return bits;
}

}  // namespace slipstream
