#pragma once

#include <filesystem>

#include "base/ids.h"
#include "base/lsn.h"
#include "wal/segment.h"

namespace slipstream::wal::io {

// The end of the last page at or behind `flushed_end` in a server's pg_wal whose header carries the page's own
// position: up to there may lie what an earlier life of this server wrote and a power cut left, though its recovery did
// not get so far. Records there are whole, at their right positions, and not what this life writes. `flushed_end` where
// there is no such page; Lsn{UINT64_MAX} where that cannot be found out. Pages that this life writes meanwhile count,
// too.
Lsn stale_pages_end(const std::filesystem::path& wal, SegmentLayout layout, TimelineId timeline, Lsn flushed_end);

}  // namespace slipstream::wal::io
