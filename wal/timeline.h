#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"

namespace slipstream::wal {

// A timeline's ancestry, as in PostgreSQL's NNNNNNNN.history file (timeline.c): which timeline owns which positions.
class TimelineHistory {
 public:
  struct Ancestor {
    TimelineId timeline;
    Lsn end;  // Where the next timeline forked off.
  };

  explicit TimelineHistory(TimelineId timeline) : timeline_(timeline) {}  // Without ancestors (timeline 1).
  static std::expected<TimelineHistory, Error> parse(TimelineId timeline, std::string_view file_content);

  TimelineId timeline() const { return timeline_; }
  TimelineId owner_of(Lsn at) const;  // The timeline on which the byte at `at` was written.
  // The timeline whose segment *file* holds the segment beginning at `segment_begin`, of `segment_size` bytes: the
  // newest that has bytes in it (a fork's first segment starts with its ancestor's bytes).
  TimelineId file_owner(Lsn segment_begin, ByteCount segment_size) const;
  // Whose files may hold that segment: file_owner first, then the ancestors with bytes in it, newest first. While
  // nothing was written behind a fork its first segment is still the ancestor's file alone.
  std::vector<TimelineId> file_candidates(Lsn segment_begin, ByteCount segment_size) const;
  const std::vector<Ancestor>& ancestors() const { return ancestors_; }

 private:
  TimelineId timeline_;
  std::vector<Ancestor> ancestors_;  // Oldest first.
};

}  // namespace slipstream::wal
