#pragma once

#include <expected>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "wal/recovery.h"
#include "wal/segment.h"

// Comparing and joining two logs' files: ordinary, waiting work for stopped replicas.
namespace slipstream::wal::io {

// The first position in `range` at which two logs differ. Errors (kDirectory): one of them lacks bytes of it.
std::expected<std::optional<Lsn>, Error> first_difference(SegmentSource& a, SegmentSource& b, LsnRange range);

// The segment that begins at `begin`, made durably under `path`: bytes below `seam` from `head`, from there to `end`
// from `tail`, zeros behind. After a crash the file is what it was before (or none) or the new one, whole. Errors:
// kDirectory (bytes are missing in a source), kStorage.
std::expected<void, Error> splice_segment(const std::filesystem::path& path, SegmentLayout layout, Lsn begin,
                                          SegmentSource& head, Lsn seam, SegmentSource& tail, Lsn end);

}  // namespace slipstream::wal::io
