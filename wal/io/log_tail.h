#pragma once

#include <expected>
#include <filesystem>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/io/file_segment_source.h"
#include "wal/segment.h"
#include "wal/timeline.h"

// The end of a replica's log, taken off: ordinary, waiting file work before its daemon writes. Each step may be
// repeated after a crash in it.
namespace slipstream::wal::io {

// Writes the log's bytes from `at` on, up to the last that is not zero in any segment, to `into`, durably: under a
// temporary name first, so that a file of that name is whole. A file that is there already is kept as it is, since what
// it was made from may be gone in part. False: there is nothing but zeros and no such file. Errors: kStorage;
// kDirectory: a segment that cannot be read.
std::expected<bool, Error> set_tail_aside(const std::filesystem::path& wal, SegmentLayout layout,
                                          const TimelineHistory& history, Lsn at, const std::filesystem::path& into);

// Durably: from `at` on there are zeros in the file that holds its segment, and no segments behind that; those are made
// anew when they are needed. Errors: kStorage.
std::expected<void, Error> clear_tail(const std::filesystem::path& wal, SegmentLayout layout,
                                      const TimelineHistory& history, Lsn at);

}  // namespace slipstream::wal::io
