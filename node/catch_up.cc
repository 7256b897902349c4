#include "node/catch_up.h"

#include <fmt/format.h>

#include <array>

namespace slipstream::node {

std::optional<Duration> CatchUp::time_left(Lsn held_end, Lsn log_end, Instant now) const {
  const ByteCount left = gap(held_end, log_end);
  if (left.value >= gap_at_begin_.value || now <= begun_) return std::nullopt;
  const double per_byte =
      static_cast<double>((now - begun_).ns) / static_cast<double>(gap_at_begin_.value - left.value);
  return Duration{static_cast<std::int64_t>(per_byte * static_cast<double>(left.value))};
}

std::string CatchUp::describe(Lsn held_end, Lsn log_end, Instant now) const {
  const std::string size = size_text(gap(held_end, log_end)) + " to go";
  const auto left = time_left(held_end, log_end, now);
  return left ? fmt::format("{}, {:.0f} s at this speed", size, static_cast<double>(left->ns) / 1e9) : size;
}

std::string size_text(ByteCount bytes) {
  constexpr std::array kUnits{"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes.value);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return unit == 0 || value >= 10 ? fmt::format("{:.0f} {}", value, kUnits[unit])
                                  : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace slipstream::node
