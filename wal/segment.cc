#include "wal/segment.h"

#include <bit>
#include <charconv>
#include <cstdio>

namespace slipstream::wal {

bool SegmentLayout::valid_size(ByteCount size) {
  return std::has_single_bit(size.value) && size.value >= (1u << 20) && size.value <= (1u << 30);
}

SegmentLayout::SegmentLayout(ByteCount segment_size) : shift_(std::countr_zero(segment_size.value)) {
  CHECK(valid_size(segment_size));
}

std::string SegmentLayout::file_name(TimelineId timeline, std::uint64_t number) const {
  const std::uint64_t per_id = std::uint64_t{1} << (32 - shift_);
  char name[32];
  std::snprintf(name, sizeof name, "%08X%08X%08X", timeline.value, static_cast<unsigned>(number / per_id),
                static_cast<unsigned>(number % per_id));
  return name;
}

std::optional<SegmentLayout::Parsed> SegmentLayout::parse(std::string_view name) const {
  Parsed out;
  if (name.ends_with(".partial")) {
    out.partial = true;
    name.remove_suffix(8);
  }
  if (name.size() != 24) return std::nullopt;
  std::uint32_t parts[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string_view digits = name.substr(8 * i, 8);
    if (digits.find_first_not_of("0123456789ABCDEF") != std::string_view::npos) return std::nullopt;
    std::from_chars(digits.data(), digits.data() + 8, parts[i], 16);
  }
  const std::uint64_t per_id = std::uint64_t{1} << (32 - shift_);
  if (parts[0] == 0 || parts[2] >= per_id) return std::nullopt;
  out.timeline = TimelineId{parts[0]};
  out.number = parts[1] * per_id + parts[2];
  return out;
}

std::string history_file_name(TimelineId timeline) {
  char name[24];
  std::snprintf(name, sizeof name, "%08X.history", timeline.value);
  return name;
}

}  // namespace slipstream::wal
