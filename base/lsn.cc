#include "base/lsn.h"

#include <charconv>
#include <cstdio>

namespace slipstream {

std::string to_string(Lsn lsn) {
  char text[32];
  std::snprintf(text, sizeof text, "%X/%X", static_cast<unsigned>(lsn.value >> 32), static_cast<unsigned>(lsn.value));
  return text;
}

std::string to_string(const LsnRange& range) {
  return "[" + to_string(range.begin) + ", " + to_string(range.end) + ")";
}

std::optional<Lsn> parse_lsn(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  std::uint32_t high = 0, low = 0;
  const auto half = [](std::string_view digits, std::uint32_t& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out, 16);
    return error == std::errc{} && end == digits.data() + digits.size();
  };
  if (!half(text.substr(0, slash), high) || !half(text.substr(slash + 1), low)) return std::nullopt;
  return Lsn{(std::uint64_t{high} << 32) | low};
}

}  // namespace slipstream
