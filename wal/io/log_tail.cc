#include "wal/io/log_tail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ranges>
#include <string>
#include <system_error>
#include <vector>

#include "wal/io/files.h"

namespace slipstream::wal::io {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

std::unexpected<Error> storage_error(const std::string& what, const std::filesystem::path& path, int problem) {
  return std::unexpected(
      Error{ExitCode::kStorage, what + ": " + std::strerror(problem), path.string(),
            "look at the file system's free space, its mount options, the file's owner and the kernel's log"});
}

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// 0, or an errno.
int write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? errno : ENOSPC;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return 0;
}

// Hands `take(at, bytes)` the log's bytes of the range in order; what has no file is left out. 0, or what take
// returned.
template <class Take>
std::expected<int, Error> read_log(FileSegmentSource& source, SegmentLayout layout, LsnRange range, Take take) {
  std::vector<std::byte> buffer(kPieceBytes);
  for (Lsn at = range.begin; at < range.end;) {
    const auto wanted = std::min<std::uint64_t>((std::min(layout.segment_end(at), range.end) - at).value, kPieceBytes);
    const std::size_t got = source.read(at, std::span(buffer).first(wanted));
    if (source.problem()) return std::unexpected(*source.problem());
    if (got == 0) {
      at = layout.segment_end(at);
      continue;
    }
    if (const int problem = take(at, std::span<const std::byte>(buffer).first(got)); problem != 0) return problem;
    at = at + ByteCount{got};
  }
  return 0;
}

// The end of the last byte that is not zero, or `at`.
std::expected<Lsn, Error> end_of_bytes(FileSegmentSource& source, SegmentLayout layout, LsnRange range) {
  Lsn end = range.begin;
  const auto done = read_log(source, layout, range, [&](Lsn at, std::span<const std::byte> bytes) {
    const auto last = std::ranges::find_if(bytes | std::views::reverse, [](std::byte b) { return b != std::byte{0}; });
    if (last != bytes.rend()) end = at + ByteCount{static_cast<std::uint64_t>(last.base() - bytes.begin())};
    return 0;
  });
  if (!done) return std::unexpected(done.error());
  return end;
}

std::expected<void, Error> copy_log(FileSegmentSource& source, SegmentLayout layout, LsnRange range,
                                    const std::filesystem::path& into) {
  const Descriptor file{::open(into.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  if (file.fd < 0) return storage_error("cannot make the file", into, errno);
  const auto copied = read_log(source, layout, range, [&](Lsn at, std::span<const std::byte> bytes) {
    return write_at(file.fd, bytes, (at - range.begin).value);
  });
  if (!copied) return std::unexpected(copied.error());
  if (*copied != 0) return storage_error("cannot write", into, *copied);
  if (::fsync(file.fd) != 0) return storage_error("cannot make durable", into, errno);
  return {};
}

std::expected<void, Error> make_durable_names(const std::filesystem::path& directory) {
  if (const int problem = sync_directory(directory); problem != 0)
    return storage_error("cannot sync the directory", directory, problem);
  return {};
}

std::expected<void, Error> make_directory(const std::filesystem::path& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return storage_error("cannot make", directory, errno);
  return make_durable_names(directory.parent_path());
}

std::expected<void, Error> zero_file_from(const std::filesystem::path& path, std::uint64_t offset, std::uint64_t size) {
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (file.fd < 0) return storage_error("cannot open", path, errno);
  const std::vector<std::byte> zeros(kPieceBytes);
  while (offset < size) {
    const auto piece = std::span(zeros).first(std::min<std::uint64_t>(size - offset, zeros.size()));
    if (const int problem = write_at(file.fd, piece, offset); problem != 0)
      return storage_error("cannot write zeros", path, problem);
    offset += piece.size();
  }
  if (::fsync(file.fd) != 0) return storage_error("cannot make durable", path, errno);
  return {};
}

}  // namespace

std::expected<bool, Error> set_tail_aside(const std::filesystem::path& wal, SegmentLayout layout,
                                          const TimelineHistory& history, Lsn at, const std::filesystem::path& into) {
  // Also of a name that was there: a process that was killed may have left one that a power cut would take back.
  if (::access(into.c_str(), F_OK) == 0) {
    if (auto named = make_durable_names(into.parent_path()); !named) return std::unexpected(named.error());
    return true;
  }
  const auto segments = list_segments(wal, layout);
  if (segments.empty() || layout.begin_of(segments.back().number + 1) <= at) return false;
  FileSegmentSource source(wal, layout, history);
  const auto end = end_of_bytes(source, layout, {at, layout.begin_of(segments.back().number + 1)});
  if (!end) return std::unexpected(end.error());
  if (*end == at) return false;
  if (auto made = make_directory(into.parent_path()); !made) return std::unexpected(made.error());
  const std::filesystem::path fresh = into.string() + ".new";
  if (auto copied = copy_log(source, layout, {at, *end}, fresh); !copied) {
    ::unlink(fresh.c_str());
    return std::unexpected(copied.error());
  }
  if (::rename(fresh.c_str(), into.c_str()) != 0) return storage_error("cannot rename", fresh, errno);
  if (auto named = make_durable_names(into.parent_path()); !named) return std::unexpected(named.error());
  return true;
}

std::expected<void, Error> clear_tail(const std::filesystem::path& wal, SegmentLayout layout,
                                      const TimelineHistory& history, Lsn at) {
  for (const SegmentFile& segment : list_segments(wal, layout))
    if (layout.begin_of(segment.number) >= at && ::unlink(segment.path.c_str()) != 0)
      return storage_error("cannot remove", segment.path, errno);
  if (auto gone = make_durable_names(wal); !gone) return gone;
  if (layout.offset_of(at) == 0) return {};
  for (const TimelineId timeline : history.file_candidates(layout.segment_begin(at), layout.segment_size())) {
    const std::filesystem::path path = wal / layout.file_name(timeline, layout.number_of(at));
    if (::access(path.c_str(), F_OK) != 0) continue;
    return zero_file_from(path, layout.offset_of(at), layout.segment_size().value);
  }
  return {};
}

}  // namespace slipstream::wal::io
