#include "wal/io/ledger_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace slipstream::wal::io {
namespace {

std::unexpected<Error> storage_error(const std::string& what, const std::filesystem::path& path, int problem) {
  return std::unexpected(
      Error{ExitCode::kStorage, what + ": " + std::strerror(problem), path.string(),
            "look at the file system's free space, its mount options, the file's owner and the kernel's log"});
}

std::unexpected<Error> damage(std::string what, const std::filesystem::path& path) {
  return std::unexpected(Error{ExitCode::kDirectory, std::move(what), path.string(),
                               "copy the segment of this name from the primary's pg_wal while it is there, or make the "
                               "replica anew with init-standby"});
}

// One segment's file, open for reading from its begin to its end.
class OpenSegment {
 public:
  OpenSegment(const std::filesystem::path& path, LedgerReading reading) : path_(path) {
    if (reading == LedgerReading::kFromStorage) fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    direct_ = fd_ >= 0;
    if (fd_ < 0) fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    problem_ = fd_ < 0 ? errno : 0;
    // No reading ahead: it would fill the page cache behind our back.
    if (fd_ >= 0 && !direct_) ::posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
  }
  ~OpenSegment() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenSegment(const OpenSegment&) = delete;
  OpenSegment& operator=(const OpenSegment&) = delete;

  int problem() const { return problem_; }

  // Fills `out`. 0, an errno, or -1: the file ends before.
  int read(std::span<std::byte> out, std::uint64_t offset) {
    std::size_t have = direct_ ? 0 : read_cached(out, offset);
    const std::size_t cached = have;
    int problem = 0;
    while (have < out.size() && problem == 0) {
      const ssize_t got = ::pread(fd_, out.data() + have, out.size() - have, static_cast<off_t>(offset + have));
      if (got > 0)
        have += static_cast<std::size_t>(got);
      else if (got == 0)
        problem = -1;
      else if (errno != EINTR)
        problem = errno;
    }
    if (!direct_ && have > cached)
      ::posix_fadvise(fd_, static_cast<off_t>(offset + cached), static_cast<off_t>(have - cached), POSIX_FADV_DONTNEED);
    return problem;
  }

  bool still_named() const {
    struct stat named{}, opened{};
    return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_, &opened) == 0 && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev;
  }

 private:
  // What can be had without reading the disk: others use it, so it is left in the page cache.
  std::size_t read_cached(std::span<std::byte> out, std::uint64_t offset) {
    const iovec into{out.data(), out.size()};
    const ssize_t got = ::preadv2(fd_, &into, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }

  const std::filesystem::path path_;
  int fd_ = -1;
  int problem_ = 0;
  bool direct_ = false;
};

enum class Ended : std::uint8_t { kAtEnd, kEarlier, kLostName };

// Hands each piece of the segment to `take(at, bytes)`, in order, until that returns false.
template <class Take>
std::expected<Ended, Error> read_segment(const SegmentFile& segment, SegmentLayout layout, LedgerReading reading,
                                         Take take) {
  OpenSegment file(segment.path, reading);
  if (file.problem() == ENOENT) return Ended::kLostName;
  if (file.problem() != 0) return storage_error("cannot open", segment.path, file.problem());
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(4096, kLedgerPieceBytes)), &std::free);
  CHECK(memory != nullptr);
  const std::span piece(memory.get(), kLedgerPieceBytes);
  const Lsn end = layout.begin_of(segment.number + 1);
  bool more = true;
  for (Lsn at = layout.begin_of(segment.number); more && at < end; at = at + ByteCount{piece.size()}) {
    const int problem = file.read(piece, layout.offset_of(at));
    if (problem != 0 && !file.still_named()) return Ended::kLostName;
    if (problem < 0) return damage("the segment is too short: it ends before " + to_string(end), segment.path);
    if (problem > 0) return storage_error("cannot read the segment at " + to_string(at), segment.path, problem);
    more = take(at, std::span<const std::byte>(piece));
  }
  if (!file.still_named()) return Ended::kLostName;
  return more ? Ended::kAtEnd : Ended::kEarlier;
}

}  // namespace

std::expected<std::optional<Ledger>, Error> digest_segment(const SegmentFile& segment, SegmentLayout layout,
                                                           LedgerReading reading, const std::function<bool()>& go_on) {
  Ledger ledger{segment.timeline, {layout.begin_of(segment.number), layout.begin_of(segment.number + 1)}, {}};
  const auto ended = read_segment(segment, layout, reading, [&](Lsn at, std::span<const std::byte> piece) {
    for (; !piece.empty(); piece = piece.subspan(kBlockBytes), at = at + ByteCount{kBlockBytes})
      ledger.blocks.push_back({{at, at + ByteCount{kBlockBytes}}, xxh3_128(piece.first(kBlockBytes))});
    return !go_on || go_on();
  });
  if (!ended) return std::unexpected(ended.error());
  if (*ended != Ended::kAtEnd) return std::nullopt;
  return ledger;
}

std::expected<void, Error> make_ledger_directory(const std::filesystem::path& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return storage_error("cannot make", directory, errno);
  if (const int problem = sync_directory(directory.parent_path()); problem != 0)
    return storage_error("cannot sync the directory", directory.parent_path(), problem);
  std::error_code problem;
  for (std::filesystem::directory_iterator each(directory, problem), end; !problem && each != end;
       each.increment(problem))
    if (each->path().extension() == ".new") ::unlink(each->path().c_str());
  if (problem) return storage_error("cannot read the directory", directory, problem.value());
  return {};
}

std::expected<void, Error> keep_ledger(const std::filesystem::path& directory, SegmentLayout layout,
                                       const Ledger& ledger) {
  return durable_replace(directory / layout.file_name(ledger.timeline, layout.number_of(ledger.segment.begin)),
                         encode(ledger));
}

std::expected<Ledger, Error> load_ledger(const std::filesystem::path& directory, SegmentLayout layout,
                                         TimelineId timeline, std::uint64_t number) {
  const auto path = directory / layout.file_name(timeline, number);
  const auto content = read_file(path);
  if (!content) return std::unexpected(content.error());
  auto ledger = decode_ledger(*content, path.string());
  if (!ledger) return ledger;
  if (ledger->timeline != timeline || ledger->segment != LsnRange{layout.begin_of(number), layout.begin_of(number + 1)})
    return std::unexpected(Error{ExitCode::kDirectory,
                                 "the ledger is that of another segment: timeline " +
                                     std::to_string(ledger->timeline.value) + ", " + to_string(ledger->segment),
                                 path.string(), "remove this file: the daemon makes it anew"});
  return ledger;
}

std::expected<SegmentCheck, Error> check_segment(const SegmentFile& segment, SegmentLayout layout,
                                                 const Ledger& ledger) {
  CHECK(layout.begin_of(segment.number) == ledger.segment.begin);
  SegmentCheck check;
  const auto ended =
      read_segment(segment, layout, LedgerReading::kFromStorage, [&](Lsn at, std::span<const std::byte> piece) {
        for (; check.blocks < ledger.blocks.size(); ++check.blocks) {
          const BlockDigest& block = ledger.blocks[check.blocks];
          const std::uint64_t offset = (block.range.begin - at).value;
          if (offset >= piece.size()) return true;
          if (xxh3_128(piece.subspan(offset, block.range.size().value)) == block.digest) continue;
          check.difference = block.range;
          return false;
        }
        return false;
      });
  if (!ended) return std::unexpected(ended.error());
  if (*ended == Ended::kLostName) return damage("the segment is missing, but there is a ledger of it", segment.path);
  return check;
}

std::expected<std::size_t, Error> remove_ledgers_beyond(const std::filesystem::path& directory, SegmentLayout layout,
                                                        Lsn end) {
  std::size_t removed = 0;
  for (const SegmentFile& ledger : list_segments(directory, layout)) {
    if (layout.begin_of(ledger.number + 1) <= end) continue;
    if (::unlink(ledger.path.c_str()) != 0) return storage_error("cannot remove", ledger.path, errno);
    ++removed;
  }
  if (removed == 0) return removed;
  if (const int problem = sync_directory(directory); problem != 0)
    return storage_error("cannot sync the directory", directory, problem);
  return removed;
}

}  // namespace slipstream::wal::io
