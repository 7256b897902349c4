#include "app/ledger_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "app/replica_directory.h"
#include "wal/io/ledger_files.h"

namespace slipstream::app {

std::expected<LedgerCheck, Error> check_against_ledgers(const std::filesystem::path& directory) {
  const auto state = ReplicaDirectory::state_of(directory);
  if (!state) return std::unexpected(state.error());
  const auto lock = wal::io::DirectoryLock::acquire(directory);
  if (!lock) return std::unexpected(lock.error());
  const wal::SegmentLayout layout(state->segment_size);
  const std::filesystem::path wal = directory / "wal", ledgers = directory / "ledger";
  if (auto fit = wal::io::check_replica_directory(wal, layout, wal::io::LogUse::kRead); !fit)
    return std::unexpected(fit.error());

  LedgerCheck out;
  for (wal::io::SegmentFile each : wal::io::list_segments(ledgers, layout)) {
    if (layout.begin_of(each.number + 1) <= state->log_begin)
      continue;  // It and its segment may be removed at any time.
    const auto ledger = wal::io::load_ledger(ledgers, layout, each.timeline, each.number);
    if (!ledger) return std::unexpected(ledger.error());
    each.path = wal / each.path.filename();
    const auto checked = wal::io::check_segment(each, layout, *ledger);
    if (!checked) return std::unexpected(checked.error());
    if (checked->difference)
      return std::unexpected(
          Error{ExitCode::kDirectory,
                fmt::format("the segment differs from its ledger in the block {} (offset {}): these bytes changed "
                            "after they had become durable, or the storage did not keep them",
                            to_string(*checked->difference), layout.offset_of(checked->difference->begin)),
                each.path.string(),
                "do not promote from it; copy the segment of this name from the primary's pg_wal while it is there, or "
                "make the replica anew with init-standby"});
    ++out.segments, out.blocks += checked->blocks;
  }
  out.without = wal::io::list_segments(wal, layout).size();
  out.without -= std::min(out.without, out.segments);
  return out;
}

}  // namespace slipstream::app
