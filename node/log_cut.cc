#include "node/log_cut.h"

#include <fmt/format.h>

#include <algorithm>

namespace slipstream::node {

std::optional<Error> objection_to_cut(const State& state) {
  const ReplacementIntent& cut = *state.replacement;
  const Lsn kept_end = std::max(state.final_end, state.log_begin);
  if (cut.from >= kept_end && cut.from < cut.old_end) return std::nullopt;
  return Error{
      ExitCode::kDirectory,
      fmt::format("its log is to be cut from {} to {}, but begins at {} and is final to {}: what is final is "
                  "never cut",
                  to_string(cut.from), to_string(cut.old_end), to_string(state.log_begin), to_string(state.final_end)),
      "",
      "keep a copy of the directory for those who look into this, and make the replica anew with "
      "init-standby"};
}

State state_before_cut(State state, const wal::Recovered& kept) {
  state.replacement->from = kept.durable_end;
  return state;
}

State state_after_cut(State state, const wal::Recovered& kept) {
  const Lsn end = kept.durable_end;
  state.replacement.reset();
  std::erase_if(state.epoch_map, [&](const EpochEntry& entry) { return entry.begin > end; });
  std::erase_if(state.tails, [&](const Tail& tail) { return tail.range.end > end; });
  state.counted_end = std::min(state.counted_end, end);
  const bool record_known = kept.last_record_begin.value != 0;
  if (!record_known)
    state.scan_begin = state.log_begin, state.scan_begin_is_record = false;
  else if (state.scan_begin > kept.last_record_begin)
    state.scan_begin = kept.last_record_begin, state.scan_begin_is_record = true;
  return state;
}

}  // namespace slipstream::node
