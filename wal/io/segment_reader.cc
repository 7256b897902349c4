#include "wal/io/segment_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace slipstream::wal::io {

SegmentReader::SegmentReader(IoRing& ring, std::filesystem::path directory, SegmentLayout layout,
                             TimelineHistory history)
    : ring_(ring), directory_(std::move(directory)), layout_(layout), history_(std::move(history)) {}

SegmentReader::~SegmentReader() {
  if (std::ranges::any_of(reads_, &Read::busy)) ring_.finish();
  for (File& file : files_)
    if (file.fd >= 0) close_file(file);
}

void SegmentReader::set_history(TimelineHistory history) { history_ = std::move(history); }

void SegmentReader::close_file(File& file) {
  ring_.remove_file(file.fd);
  ::close(file.fd);
  file = {};
}

void SegmentReader::release(File& file) {
  CHECK(file.reads > 0);
  if (--file.reads == 0 && file.stale) close_file(file);
}

bool SegmentReader::still_named(const File& file) {
  struct stat info{};
  return ::stat(file.path.c_str(), &info) == 0 && info.st_ino == file.inode && info.st_dev == file.device;
}

// An open file that lost its name keeps its space from the file system, or will soon be overwritten under a later name.
void SegmentReader::close_stale() {
  for (File& file : files_) {
    if (file.fd < 0 || still_named(file)) continue;
    file.stale = true;
    if (file.reads == 0) close_file(file);
  }
}

void SegmentReader::close_before(Lsn keep_from) {
  for (File& file : files_)
    if (file.fd >= 0 && file.reads == 0 && layout_.begin_of(file.number + 1) <= keep_from) close_file(file);
}

// The file not used for longest makes room; one that is being read stays.
SegmentReader::File* SegmentReader::free_place() {
  File* oldest = nullptr;
  for (File& file : files_)
    if (file.reads == 0 && (!oldest || file.used < oldest->used)) oldest = &file;
  if (oldest && oldest->fd >= 0) close_file(*oldest);
  return oldest;
}

std::expected<SegmentReader::File*, IoStatus> SegmentReader::file_of(std::uint64_t number) {
  const Lsn begin = layout_.begin_of(number);
  auto file = file_of(number, history_.file_owner(begin, layout_.segment_size()));
  if (file || file.error() != IoStatus::kMissing || history_.ancestors().empty()) return file;
  for (const TimelineId older : history_.file_candidates(begin, layout_.segment_size()))
    if (file = file_of(number, older); file || file.error() != IoStatus::kMissing) break;
  return file;
}

std::expected<SegmentReader::File*, IoStatus> SegmentReader::file_of(std::uint64_t number, TimelineId owner) {
  const auto found = std::ranges::find_if(
      files_, [&](const File& f) { return f.fd >= 0 && !f.stale && f.number == number && f.owner == owner; });
  if (found != files_.end()) {
    found->used = ++uses_;
    return &*found;
  }
  close_stale();
  File* place = free_place();
  if (!place) return nullptr;
  std::string path = directory_ / layout_.file_name(owner, number);
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT && !archive_.empty()) {
    path = archive_ / layout_.file_name(owner, number);
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (fd < 0) return std::unexpected(errno == ENOENT ? IoStatus::kMissing : IoStatus::kFailed);
  struct stat info{};
  if (::fstat(fd, &info) != 0) {
    ::close(fd);
    return std::unexpected(IoStatus::kFailed);
  }
  *place = {fd, number, owner, path, info.st_dev, info.st_ino, ++uses_, 0, false};
  newest_ = std::max(newest_, number);
  ring_.add_file(fd);
  return place;
}

bool SegmentReader::submit(std::uint32_t id, LsnRange range, std::span<std::byte> into, bool bulk) {
  CHECK(!range.empty() && range.end <= layout_.segment_end(range.begin) && into.size() == range.size().value);
  const auto slot = std::ranges::find(reads_, false, &Read::busy);
  if (slot == reads_.end()) return false;
  *slot = {true, id, range, into, 0, bulk, false, nullptr};
  go_on(static_cast<std::size_t>(slot - reads_.begin()));
  return true;
}

void SegmentReader::go_on(std::size_t index) {
  Read& read = reads_[index];
  if (!read.file) {
    const auto file = file_of(layout_.number_of(read.range.begin));
    if (!file) {
      failed_.push_back(*ended(index, file.error()));
      return;
    }
    read.file = *file;
    if (read.file) ++read.file->reads;
  }
  const std::uint64_t offset = layout_.offset_of(read.range.begin) + read.have;
  if (!read.file || !ring_.read(read.file->fd, read.into.subspan(read.have), offset, kUserMark | index))
    waiting_.push_back(index);
}

std::optional<IoDone> SegmentReader::ended(std::size_t index, IoStatus status) {
  Read& read = reads_[index];
  const IoDone done{read.id, status};
  if (read.file) release(*read.file);
  read = {};
  return done;
}

std::optional<IoDone> SegmentReader::start_again(std::size_t index) {
  Read& read = reads_[index];
  read.file->stale = true;
  release(*std::exchange(read.file, nullptr));
  if (std::exchange(read.again, true)) return ended(index, IoStatus::kMissing);
  read.have = 0;
  go_on(index);
  return std::nullopt;
}

std::optional<IoDone> SegmentReader::on_completion(const IoRing::Completion& completion) {
  const auto index = static_cast<std::size_t>(completion.user & ~kUserMark);
  CHECK(index < reads_.size() && reads_[index].busy);
  Read& read = reads_[index];
  const int result = completion.result;
  if (result > 0) read.have += static_cast<std::size_t>(result);
  if ((result > 0 && read.have < read.into.size()) || result == -EINTR || result == -EAGAIN) {
    go_on(index);
    return std::nullopt;
  }
  if (result < 0) return ended(index, IoStatus::kFailed);
  if ((read.bulk || read.file->number < newest_) && !still_named(*read.file)) return start_again(index);
  return ended(index, read.have == read.into.size() ? IoStatus::kOk : IoStatus::kMissing);
}

std::optional<IoDone> SegmentReader::next_failed() {
  for (std::size_t left = waiting_.size(); left > 0; --left) {
    const std::size_t index = waiting_.front();
    waiting_.pop_front();
    go_on(index);
  }
  if (failed_.empty()) return std::nullopt;
  const IoDone done = failed_.front();
  failed_.pop_front();
  return done;
}

}  // namespace slipstream::wal::io
