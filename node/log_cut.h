#pragma once

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "node/state_file.h"
#include "wal/recovery.h"

namespace slipstream::node {

// What must be true of a state before its replacement intent is carried out. Error (kDirectory): nothing may be cut.
std::optional<Error> objection_to_cut(const State& state);

// Where the last record that is known to be there begins, so as to find the last record that ends at or below the cut.
inline Lsn scan_begin_of_cut(const State& state) { return std::min(state.scan_begin, state.replacement->from); }

// The log is cut where a record ends: the intent begins at kept.durable_end, the end of the last one that ends at or
// below where it was to begin. Durable before a byte changes: so whoever tries again after a crash cuts at the same
// place.
State state_before_cut(State state, const wal::Recovered& kept);

// Once nothing is left of the log behind kept.durable_end: the intent is fulfilled.
State state_after_cut(State state, const wal::Recovered& kept);

}  // namespace slipstream::node
