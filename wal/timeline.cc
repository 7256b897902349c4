#include "wal/timeline.h"

#include <algorithm>
#include <charconv>

#include "wal/segment.h"

namespace slipstream::wal {
namespace {

std::string_view next_word(std::string_view& line) {
  const auto begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  line.remove_prefix(begin);
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  line.remove_prefix(word.size());
  return word;
}

}  // namespace

std::expected<TimelineHistory, Error> TimelineHistory::parse(TimelineId timeline, std::string_view content) {
  TimelineHistory history(timeline);
  const auto bad = [&](std::string_view line) {
    return std::unexpected(Error{ExitCode::kDirectory,
                                 "not a line of a timeline history: \"" + std::string(line.substr(0, 80)) + "\"",
                                 history_file_name(timeline), "fetch the file from the primary again"});
  };
  while (!content.empty()) {
    const std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(content.size(), line.size() + 1));
    std::string_view rest = line;
    const std::string_view number = next_word(rest), end = next_word(rest);
    if (number.empty() || number.starts_with('#')) continue;
    Ancestor ancestor;
    const auto [stop, problem] = std::from_chars(number.data(), number.data() + number.size(), ancestor.timeline.value);
    const auto at = parse_lsn(end);
    if (problem != std::errc{} || stop != number.data() + number.size() || !at) return bad(line);
    ancestor.end = *at;
    const bool rises = history.ancestors_.empty() || (history.ancestors_.back().timeline < ancestor.timeline &&
                                                      history.ancestors_.back().end <= ancestor.end);
    if (!rises || ancestor.timeline.value == 0 || ancestor.timeline >= timeline) return bad(line);
    history.ancestors_.push_back(ancestor);
  }
  return history;
}

TimelineId TimelineHistory::owner_of(Lsn at) const {
  for (const Ancestor& ancestor : ancestors_)
    if (at < ancestor.end) return ancestor.timeline;
  return timeline_;
}

TimelineId TimelineHistory::file_owner(Lsn segment_begin, ByteCount segment_size) const {
  return owner_of(segment_begin + ByteCount{segment_size.value - 1});
}

std::vector<TimelineId> TimelineHistory::file_candidates(Lsn segment_begin, ByteCount segment_size) const {
  std::vector<TimelineId> out{file_owner(segment_begin, segment_size)};
  for (auto it = ancestors_.rbegin(); it != ancestors_.rend() && it->end > segment_begin; ++it)
    if (it->timeline < out.front()) out.push_back(it->timeline);
  return out;
}

}  // namespace slipstream::wal
