#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "wal/segment.h"
#include "wal/timeline.h"

// A timeline history file comes from the primary, or from a directory: refused, or ancestors that rise, and an owner
// for every position.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream;
  constexpr ByteCount kSegment{1 << 20};
  constexpr TimelineId kTimeline{7};
  const auto history = wal::TimelineHistory::parse(kTimeline, {reinterpret_cast<const char*>(data), size});
  if (!history) {
    CHECK(!history.error().what.empty());
    return 0;
  }
  CHECK(history->timeline() == kTimeline);
  Lsn end{};
  TimelineId last{0};
  for (const auto& ancestor : history->ancestors()) {
    CHECK(ancestor.timeline > last && ancestor.timeline < kTimeline && ancestor.end >= end);
    last = ancestor.timeline, end = ancestor.end;
    for (const Lsn at : {end, align_down(end, kSegment.value), Lsn{end.value == 0 ? 0 : end.value - 1}}) {
      const TimelineId owner = history->owner_of(at);
      CHECK(owner.value > 0 && owner <= kTimeline);
      const Lsn begin = align_down(at, kSegment.value);
      const auto candidates = history->file_candidates(begin, kSegment);
      CHECK(!candidates.empty() && candidates.front() == history->file_owner(begin, kSegment));
    }
  }
  return 0;
}
