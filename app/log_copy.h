#pragma once

#include <cstddef>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "wal/io/file_segment_source.h"
#include "wal/ledger.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::app {

// One copy of a log, to be compared with another: its segments, their ledgers, or both. Read only; whoever writes to it
// may go on meanwhile.
class LogCopy {
 public:
  // `place`: a replica's directory; a server's data directory or its pg_wal; any other directory of segments (an
  // archive); a primary's state directory, or any other directory of ledgers; or a configuration file: a replica's
  // (its directory) or a primary's (its state directory, and pg_wal if its server answers).
  // Errors: kConfiguration, kDirectory (nothing of a log is there, or it cannot be read).
  static std::expected<LogCopy, Error> open(const std::filesystem::path& place);

  const std::string& name() const { return name_; }  // As given.
  const wal::SegmentLayout& layout() const { return layout_; }
  std::optional<SystemId> system() const { return system_; }  // Ledgers alone do not tell.
  bool has_bytes() const { return source_ != nullptr; }
  const std::string& note() const { return note_; }  // What could not be had, and why. May be empty.

  // What is there now. The end of bare segments may lie far behind the log's: what follows in pg_wal are segments to be
  // used again, full of old bytes.
  LsnRange range() const;
  bool end_is_known() const { return end_is_known_; }
  // Whether WAL of this log goes on behind the end of its last valid record before `at`, and where that end is.
  struct Ending {
    Lsn end;
    bool goes_on = false;
  };
  Ending ending_near(Lsn at);

  struct Held {
    TimelineId timeline;  // The newest that has bytes in it and of which there is a file.
    std::filesystem::path file;
  };
  std::optional<Held> segment(std::uint64_t number) const { return held_in(wal_, number); }
  // Nothing when there is none. Errors (kDirectory): it is damaged.
  std::expected<std::optional<wal::Ledger>, Error> ledger(std::uint64_t number) const;
  // From the bytes; both stop before the first that is not there.
  std::vector<wal::BlockDigest> digests(LsnRange range);
  std::vector<std::byte> bytes(LsnRange range);

 private:
  LogCopy(std::string name, wal::SegmentLayout layout) : name_(std::move(name)), layout_(layout) {}
  static std::expected<LogCopy, Error> of_configuration(const std::filesystem::path& file);
  static std::expected<LogCopy, Error> of_primary(const std::filesystem::path& file, const struct Config& config);
  static std::expected<LogCopy, Error> of_replica(const std::filesystem::path& directory);
  static std::expected<LogCopy, Error> of_files(const std::filesystem::path& directory);
  std::optional<Held> held_in(const std::filesystem::path& directory, std::uint64_t number) const;
  void use_segments(const std::filesystem::path& directory, wal::TimelineHistory history);
  bool begins_rightly(std::uint64_t number);

  std::string name_;
  std::string note_;
  wal::SegmentLayout layout_;
  std::optional<SystemId> system_;
  std::filesystem::path replica_;        // Whose state file tells the range; empty: none does.
  std::filesystem::path wal_, ledgers_;  // Empty: there are none.
  wal::TimelineHistory history_{TimelineId{1}};
  bool end_is_known_ = true;
  std::unique_ptr<wal::io::FileSegmentSource> source_;
};

}  // namespace slipstream::app
