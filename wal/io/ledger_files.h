#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/error.h"
#include "wal/io/files.h"
#include "wal/ledger.h"
#include "wal/segment.h"

// The ledgers of a directory's segments: ordinary, waiting file work for threads that have time.
// A ledger bears the name of its segment, in a directory of its own; so list_segments() lists them, too.
namespace slipstream::wal::io {

constexpr std::size_t kLedgerPieceBytes = 1u << 20;  // Read at a time: a whole number of blocks in every segment.

enum class LedgerReading : std::uint8_t {
  kLeaveCache,   // What was not in the page cache is not there afterwards either. Right behind any writer.
  kFromStorage,  // Past the page cache where the file system can (O_DIRECT): damage on the disk shows. No writer
                 // meanwhile.
};

// The ledger of a segment as its file is now. `go_on` is asked after each piece; false ends it. Nothing: it was ended
// so, or the file lost its name before the last byte was read (PostgreSQL recycles segments by renaming them), so that
// the bytes may be another segment's. Errors: kStorage (cannot be read), kDirectory (it is too short).
std::expected<std::optional<Ledger>, Error> digest_segment(const SegmentFile& segment, SegmentLayout layout,
                                                           LedgerReading reading,
                                                           const std::function<bool()>& go_on = {});

// Made if need be, for its owner alone, durably; what a crash left of unfinished ledgers is removed. Errors: kStorage.
std::expected<void, Error> make_ledger_directory(const std::filesystem::path& directory);

// Durably, as `directory`/<segment name>. Errors: kStorage.
std::expected<void, Error> keep_ledger(const std::filesystem::path& directory, SegmentLayout layout,
                                       const Ledger& ledger);

// The ledger of that segment. Errors (kDirectory): there is none, it is damaged, or it is another segment's.
std::expected<Ledger, Error> load_ledger(const std::filesystem::path& directory, SegmentLayout layout,
                                         TimelineId timeline, std::uint64_t number);

struct SegmentCheck {
  std::size_t blocks = 0;              // How many were found equal before the first difference.
  std::optional<LsnRange> difference;  // The first block that is not as the ledger says.
};
// Compares a segment with its ledger, read from storage. Errors: as digest_segment(), and kDirectory when it is gone.
std::expected<SegmentCheck, Error> check_segment(const SegmentFile& segment, SegmentLayout layout,
                                                 const Ledger& ledger);

// Durably removes the ledgers of segments that do not end at or below `end`: before their bytes change. Returns how
// many. Errors: kStorage.
std::expected<std::size_t, Error> remove_ledgers_beyond(const std::filesystem::path& directory, SegmentLayout layout,
                                                        Lsn end);

}  // namespace slipstream::wal::io
