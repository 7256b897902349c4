#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/lsn.h"

// Marks "not held": between these positions commits returned while PostgreSQL's own synchronous_standby_names did not
// always contain us, so that no replica need hold them (R2). A list of them is rising and disjoint; its last may be
// open.
namespace slipstream::node {

inline constexpr Lsn kOpenEnd{UINT64_MAX};  // Of a mark: the names do not contain us yet.
inline constexpr std::size_t kMarksMax = 8;

using Marks = std::vector<LsnRange>;

inline bool has_open_mark(const Marks& marks) { return !marks.empty() && marks.back().end == kOpenEnd; }

// What was marked before and lies beyond `begin` becomes part of the new mark; of too many the oldest become one.
void open_mark(Marks& marks, Lsn begin);
// An open mark ends here; one that would be empty is dropped.
void close_mark(Marks& marks, Lsn end);
// The two oldest become one, which says more than is known, never less.
void join_oldest(Marks& marks);
// Those that still matter to somebody who holds everything below `held_end`.
Marks marks_beyond(std::span<const LsnRange> marks, Lsn held_end);

// All of both, rising and disjoint.
Marks joined_marks(Marks a, std::span<const LsnRange> b);

// A replica is told `told` by a primary whose PostgreSQL has flushed to `flushed_end`. What it knew and the primary no
// longer knows (its state was lost) ends there: later positions are the primary's own to mark. What lies below
// `durable_end`, the replica holds.
Marks marks_after_update(const Marks& own, const Marks& told, Lsn flushed_end, Lsn durable_end);

// "commits from 0/3000000 on", "commits between 0/3000000 and 0/4000000".
std::string describe_mark(const LsnRange& mark);

}  // namespace slipstream::node
