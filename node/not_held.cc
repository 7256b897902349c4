#include "node/not_held.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace slipstream::node {

void open_mark(Marks& marks, Lsn begin) {
  CHECK(!has_open_mark(marks));
  while (!marks.empty() && marks.back().end >= begin) {
    begin = std::min(begin, marks.back().begin);
    marks.pop_back();
  }
  marks.push_back({begin, kOpenEnd});
  while (marks.size() > kMarksMax) join_oldest(marks);
}

void close_mark(Marks& marks, Lsn end) {
  CHECK(has_open_mark(marks) && end != kOpenEnd);
  marks.back().end = end;
  if (marks.back().empty()) marks.pop_back();
}

void join_oldest(Marks& marks) {
  CHECK(marks.size() >= 2);
  marks[1].begin = marks[0].begin;
  marks.erase(marks.begin());
}

Marks marks_beyond(std::span<const LsnRange> marks, Lsn held_end) {
  Marks out;
  std::ranges::copy_if(marks, std::back_inserter(out), [&](const LsnRange& mark) { return mark.end > held_end; });
  return out;
}

Marks marks_after_update(const Marks& own, const Marks& told, Lsn flushed_end, Lsn durable_end) {
  Marks kept_own;
  for (const LsnRange& mark : own) {
    if (std::ranges::any_of(told, [&](const LsnRange& known) { return known.contains(mark.begin); })) continue;
    const LsnRange kept{mark.begin, std::min(mark.end, flushed_end)};
    if (!kept.empty() && kept.end > durable_end) kept_own.push_back(kept);
  }
  return joined_marks(marks_beyond(told, durable_end), kept_own);
}

Marks joined_marks(Marks all, std::span<const LsnRange> b) {
  std::ranges::copy(b, std::back_inserter(all));
  std::ranges::sort(all, {}, &LsnRange::begin);
  Marks out;
  for (const LsnRange& mark : all) {
    if (!out.empty() && mark.begin <= out.back().end)
      out.back().end = std::max(out.back().end, mark.end);
    else
      out.push_back(mark);
  }
  while (out.size() > kMarksMax) join_oldest(out);
  return out;
}

std::string describe_mark(const LsnRange& mark) {
  const std::string begin = mark.begin == Lsn{} ? "a position not known" : to_string(mark.begin);
  return mark.end == kOpenEnd ? fmt::format("commits from {} on", begin)
                              : fmt::format("commits between {} and {}", begin, to_string(mark.end));
}

}  // namespace slipstream::node
