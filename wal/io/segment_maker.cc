#include "wal/io/segment_maker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ranges>
#include <string>
#include <utility>

#include "wal/io/files.h"

namespace slipstream::wal::io {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;  // The smallest segment.

struct FreeDeleter {
  void operator()(void* at) const { std::free(at); }
};

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// 0, or errno.
int write_whole(int fd, const std::byte* from, std::size_t bytes, std::uint64_t offset) {
  for (std::size_t have = 0; have < bytes;) {
    const ssize_t put = ::pwrite(fd, from + have, bytes - have, static_cast<off_t>(offset + have));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    if (put == 0) return ENOSPC;
    have += static_cast<std::size_t>(put);
  }
  return 0;
}

int read_whole(int fd, std::byte* into, std::size_t bytes, std::uint64_t offset) {
  for (std::size_t have = 0; have < bytes;) {
    const ssize_t got = ::pread(fd, into + have, bytes - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return EIO;
    have += static_cast<std::size_t>(got);
  }
  return 0;
}

}  // namespace

SegmentMaker::SegmentMaker(std::filesystem::path directory, SegmentLayout layout, bool direct,
                           std::function<void()> wake)
    : directory_(std::move(directory)), layout_(layout), direct_(direct), wake_(std::move(wake)), thread_([this] {
        run();
      }) {}

SegmentMaker::~SegmentMaker() {
  stop_.store(true);
  work_.release();
  thread_.join();
  while (const auto made = next_made())
    if (made->fd >= 0) ::close(made->fd);
}

bool SegmentMaker::request(std::uint64_t number, std::shared_ptr<const TimelineHistory> history) {
  if (under_way_ == kRequestsMax) return false;
  CHECK(requests_.push({number, std::move(history)}));
  ++under_way_;
  work_.release();
  return true;
}

std::optional<SegmentMaker::Made> SegmentMaker::next_made() {
  Made made;
  if (!made_.pop(made)) return std::nullopt;
  --under_way_;
  return made;
}

void SegmentMaker::run() {
  remove_temporary_files(directory_);  // A crash may have left some.
  while (true) {
    work_.acquire();
    if (stop_.load()) return;
    Request request;
    CHECK(requests_.pop(request));
    CHECK(made_.push(make(request)));
    if (wake_) wake_();
  }
}

SegmentMaker::Made SegmentMaker::make(const Request& request) const {
  const TimelineId owner = request.history->file_owner(layout_.begin_of(request.number), layout_.segment_size());
  const auto path = directory_ / layout_.file_name(owner, request.number);
  int fd = -1;
  int problem = open_existing(path, fd);
  if (problem == ENOENT) {
    problem = make_new(request, path);
    if (problem == 0) problem = open_existing(path, fd);
  }
  return {request.number, owner, fd, problem};
}

int SegmentMaker::open_existing(const std::filesystem::path& path, int& fd) const {
  Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC | (direct_ ? O_DIRECT : 0))};
  if (file.fd < 0) return errno;
  struct stat info{};
  if (::fstat(file.fd, &info) != 0) return errno;
  if (static_cast<std::uint64_t>(info.st_size) != layout_.segment_size().value) return EINVAL;
  // Also when we did not make it just now: a process that was killed may have left a name that is not durable.
  if (const int problem = sync_directory(directory_); problem != 0) return problem;
  fd = std::exchange(file.fd, -1);
  return 0;
}

int SegmentMaker::make_new(const Request& request, const std::filesystem::path& path) const {
  Descriptor ancestor;
  std::uint64_t ancestor_bytes = 0;
  for (const auto& each :
       std::views::reverse(request.history->ancestors())) {  // The newest that has bytes in this segment.
    if (each.end <= layout_.begin_of(request.number) || ancestor.fd >= 0) break;
    ancestor.fd = ::open((directory_ / layout_.file_name(each.timeline, request.number)).c_str(), O_RDONLY | O_CLOEXEC);
    if (ancestor.fd < 0 && errno != ENOENT) return errno;
    ancestor_bytes = each.end.value - layout_.begin_of(request.number).value;
  }
  // Its own name per process, as PostgreSQL does.
  const auto fresh = directory_ / (std::string(kTemporaryPrefix) + std::to_string(::getpid()));
  int problem = 0;
  {
    const Descriptor file{
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | (direct_ ? O_DIRECT : 0), 0600)};
    if (file.fd < 0) return errno;
    problem = fill(file.fd, ancestor.fd, ancestor.fd >= 0 ? ancestor_bytes : 0);
    if (problem == 0 && ::fsync(file.fd) != 0) problem = errno;
  }
  if (problem == 0 && ::rename(fresh.c_str(), path.c_str()) != 0) problem = errno;
  if (problem != 0) ::unlink(fresh.c_str());
  return problem;
}

int SegmentMaker::fill(int fd, int ancestor, std::uint64_t ancestor_bytes) const {
  const std::uint64_t size = layout_.segment_size().value;
  // A full disk shows at once instead of after most of a segment; a file system that cannot do this shows it later.
  if (::fallocate(fd, 0, 0, static_cast<off_t>(size)) != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    return errno;
  const std::unique_ptr<void, FreeDeleter> memory(std::aligned_alloc(kPageBytes, kChunkBytes));
  if (!memory) return ENOMEM;
  auto* chunk = static_cast<std::byte*>(memory.get());
  std::memset(chunk, 0, kChunkBytes);
  for (std::uint64_t at = 0; at < size; at += kChunkBytes) {
    if (stop_.load()) return ECANCELED;
    const std::size_t copied = at < ancestor_bytes ? std::min<std::size_t>(kChunkBytes, ancestor_bytes - at) : 0;
    if (copied > 0) {
      if (const int problem = read_whole(ancestor, chunk, copied, at); problem != 0) return problem;
      std::memset(chunk + copied, 0, kChunkBytes - copied);
    }
    if (const int problem = write_whole(fd, chunk, kChunkBytes, at); problem != 0) return problem;
    if (copied > 0) std::memset(chunk, 0, copied);
  }
  return 0;
}

}  // namespace slipstream::wal::io
