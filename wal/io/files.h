#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "wal/io/directory_lock.h"
#include "wal/io/file_segment_source.h"
#include "wal/segment.h"

// Ordinary, waiting file work around segments: for start-up and slow threads, never for the data thread.
namespace slipstream::wal::io {

// Replaces `path` with `content` so that after a crash it is the old or the new file, whole. Errors: kStorage.
std::expected<void, Error> durable_replace(const std::filesystem::path& path, std::span<const std::byte> content);
// The same for who can wait: false when the file system is full; what was there before stays, or its replacement is not
// known to be durable yet. To be repeated.
std::expected<bool, Error> durable_replace_if_room(const std::filesystem::path& path,
                                                   std::span<const std::byte> content);
std::expected<std::vector<std::byte>, Error> read_file(const std::filesystem::path& path);
// What durable_replace() put there, and only after its name is durable too: a process that was killed just after
// renaming leaves a file that can be read but that a power cut would take back.
std::expected<std::vector<std::byte>, Error> read_durable(const std::filesystem::path& path);

// Makes the names in a directory durable. 0, or an errno.
int sync_directory(const std::filesystem::path& directory);

// The server's pg_wal, to be read: a directory, readable, with segments, all of this layout's size. Errors: kDirectory.
std::expected<void, Error> check_wal_directory(const std::filesystem::path& directory, SegmentLayout layout);
// A replica's log: a directory, readable, its segments (if any) of this layout's size; one's own to be written, too.
// Errors: kDirectory.
enum class LogUse : std::uint8_t { kRead, kWrite };
std::expected<void, Error> check_replica_directory(const std::filesystem::path& directory, SegmentLayout layout,
                                                   LogUse use = LogUse::kWrite);

struct SegmentFile {
  TimelineId timeline;
  std::uint64_t number = 0;
  std::filesystem::path path;
};
// By number, then timeline. Partial segments and other files are left out; so is everything if the directory cannot be
// read.
std::vector<SegmentFile> list_segments(const std::filesystem::path& directory, SegmentLayout layout);

// Removes the segments that end at or before `keep_from`, the oldest first; returns how many.
std::size_t remove_segments_before(const std::filesystem::path& directory, SegmentLayout layout, Lsn keep_from);

// Makes durable what the segments from that of `from` on hold, and their names. A process that was killed leaves bytes
// that can be read but do not survive a power cut yet: to be called after recovery found them, before they are
// acknowledged. Errors: kStorage.
std::expected<void, Error> sync_segments_from(const std::filesystem::path& directory, SegmentLayout layout, Lsn from);

constexpr std::string_view kTemporaryPrefix =
    "xlogtemp.";  // PostgreSQL's name for segments that are being made; it ignores and removes them, too.
void remove_temporary_files(const std::filesystem::path& directory);

}  // namespace slipstream::wal::io
