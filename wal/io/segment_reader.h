#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <expected>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "base/lsn.h"
#include "wal/io/io_ring.h"
#include "wal/io/io_status.h"
#include "wal/segment.h"
#include "wal/timeline.h"

namespace slipstream::wal::io {

// Reads ranges of WAL from the segment files of one directory (a live primary's pg_wal, or our own), many at a time.
// Guarantees: (1) A read that was accepted ends exactly once, by on_completion() or next_failed().
//   (2) kOk: all bytes of the range, from the file that bears the segment's name. PostgreSQL recycles segments by
//   renaming them to later names
//       and then overwrites them; so after a bulk read, and after any read below the newest segment opened, the name
//       must still lead to the same file. If not, the read starts again, once.
//   (3) kMissing: there is no such segment, or it ends before the range does. kFailed: it may be there, but cannot be
//   read.
// Ownership: `into` stays the reader's until the read has ended. Files are opened here, kept open, and let go when they
// lose their names. Threading: the ring's thread.
class SegmentReader {
 public:
  static constexpr std::size_t kReadsMax = 64;
  static constexpr std::uint64_t kUserMark = std::uint64_t{1} << 62;  // Marks our completions in a shared ring.

  SegmentReader(IoRing& ring, std::filesystem::path directory, SegmentLayout layout, TimelineHistory history);
  ~SegmentReader();
  SegmentReader(const SegmentReader&) = delete;
  SegmentReader& operator=(const SegmentReader&) = delete;

  // Where segments may lie that are no longer in the directory, brought back from an archive.
  void set_archive(std::filesystem::path directory) { archive_ = std::move(directory); }
  // For reads submitted from now on.
  void set_history(TimelineHistory history);
  TimelineId file_owner(Lsn at) const {  // Whose file it is looked for in first.
    return history_.file_owner(layout_.segment_begin(at), layout_.segment_size());
  }
  // `range` lies within one segment, `into` has its size. False: too many under way, try again later.
  bool submit(std::uint32_t id, LsnRange range, std::span<std::byte> into, bool bulk);
  // A completion of ours; a result when the read has ended (short reads go on by themselves).
  std::optional<IoDone> on_completion(const IoRing::Completion& completion);
  // Reads that ended without a completion: no such file. Also goes on with those that wait for room. Call once a turn.
  std::optional<IoDone> next_failed();
  // Lets go of files wholly before `keep_from` that are not being read.
  void close_before(Lsn keep_from);

 private:
  static constexpr std::size_t kFilesMax = 16;
  struct File {
    int fd = -1;
    std::uint64_t number = 0;
    TimelineId owner;
    std::string path;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t used = 0;
    std::size_t reads = 0;  // Under way.
    bool stale = false;     // Lost its name: no new reads, closed after the last.
  };
  struct Read {
    bool busy = false;
    std::uint32_t id = 0;
    LsnRange range{};
    std::span<std::byte> into;
    std::size_t have = 0;
    bool bulk = false;
    bool again = false;  // Started a second time.
    File* file = nullptr;
  };

  std::expected<File*, IoStatus> file_of(std::uint64_t number);  // nullptr: all places are taken.
  std::expected<File*, IoStatus> file_of(std::uint64_t number, TimelineId owner);
  File* free_place();
  static bool still_named(const File& file);
  void close_stale();
  void close_file(File& file);
  void release(File& file);
  void go_on(std::size_t index);
  std::optional<IoDone> ended(std::size_t index, IoStatus status);
  std::optional<IoDone> start_again(std::size_t index);

  IoRing& ring_;
  std::filesystem::path directory_;
  std::filesystem::path archive_;  // Empty: none.
  SegmentLayout layout_;
  TimelineHistory history_;
  std::array<File, kFilesMax> files_{};
  std::array<Read, kReadsMax> reads_{};
  std::uint64_t uses_ = 0;
  std::uint64_t newest_ = 0;         // Highest segment number opened.
  std::deque<std::size_t> waiting_;  // For room in the ring, or among the files.
  std::deque<IoDone> failed_;
};

}  // namespace slipstream::wal::io
