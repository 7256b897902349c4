#include "wal/io/file_segment_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "wal/io/files.h"

namespace slipstream::wal::io {

FileSegmentSource::FileSegmentSource(std::filesystem::path directory, SegmentLayout layout,
                                     std::optional<TimelineHistory> history)
    : directory_(std::move(directory)), layout_(layout), history_(std::move(history)) {}

FileSegmentSource::~FileSegmentSource() { close_segment(); }

void FileSegmentSource::close_segment() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string FileSegmentSource::name_of(std::uint64_t number) const {
  if (history_) {
    for (const TimelineId timeline : history_->file_candidates(layout_.begin_of(number), layout_.segment_size())) {
      const std::string name = layout_.file_name(timeline, number);
      if (::faccessat(AT_FDCWD, (directory_ / name).c_str(), F_OK, 0) == 0) return name;
    }
    return {};
  }
  std::string newest;
  for (const SegmentFile& file : list_segments(directory_, layout_))
    if (file.number == number) newest = file.path.filename().string();
  return newest;
}

bool FileSegmentSource::open_segment(std::uint64_t number) {
  if (fd_ >= 0 && number_ == number) return true;
  close_segment();
  const std::string name = name_of(number);
  if (name.empty()) return false;
  path_ = directory_ / name;
  number_ = number;
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  return fd_ >= 0;
}

bool FileSegmentSource::still_named() const {
  struct stat named{}, opened{};
  return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_, &opened) == 0 && named.st_ino == opened.st_ino &&
         named.st_dev == opened.st_dev;
}

void FileSegmentSource::note_problem(Lsn at, int error) {
  problem_ = Error{ExitCode::kDirectory, "it cannot be read at " + to_string(at) + ": " + std::strerror(error),
                   path_.string(), "look at the storage; if it is lost, make the replica anew with init-standby"};
}

std::size_t FileSegmentSource::read(Lsn at, std::span<std::byte> out) {
  problem_.reset();
  const auto count =
      static_cast<std::size_t>(std::min<std::uint64_t>(layout_.segment_end(at).value - at.value, out.size()));
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!open_segment(layout_.number_of(at))) {
      const int error = errno;
      if (!name_of(layout_.number_of(at)).empty()) note_problem(at, error);
      return 0;
    }
    ssize_t got = 0;
    do got = ::pread(fd_, out.data(), count, static_cast<off_t>(layout_.offset_of(at)));
    while (got < 0 && errno == EINTR);
    const int error = errno;
    if (still_named()) {
      if (got < 0) note_problem(at, error);
      return got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    close_segment();
  }
  return 0;
}

std::vector<BlockDigest> digest_blocks(SegmentSource& source, SegmentLayout, LsnRange range) {
  std::vector<BlockDigest> out;
  std::vector<std::byte> block(kBlockBytes);
  for (Lsn at = range.begin; at < range.end;) {
    const Lsn end = std::min(range.end, Lsn{align_down(at, kBlockBytes).value + kBlockBytes});
    const auto bytes = std::span(block).first(end.value - at.value);
    if (!read_whole(source, at, bytes)) return out;
    out.push_back({{at, end}, xxh3_128(bytes)});
    at = end;
  }
  return out;
}

}  // namespace slipstream::wal::io
