#include "wal/io/written_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <string>

namespace slipstream::wal::io {
namespace {

constexpr std::size_t kBufferBytes = 16 * 1024;

// One event of `bytes`; moves on behind it. An event's name, which follows it, is not looked at.
bool tells_of_a_write(const std::byte* bytes, std::size_t& at) {
  inotify_event event{};
  std::memcpy(&event, bytes + at, sizeof event);
  at += sizeof event + event.len;
  return (event.mask & (IN_MODIFY | IN_Q_OVERFLOW)) != 0;
}

Error cannot_watch(int error, const std::filesystem::path& directory) {
  return {ExitCode::kDirectory, std::string("writes to it cannot be watched: ") + std::strerror(error),
          directory.string(),
          error == ENOSPC || error == EMFILE ? "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
                                             : "is it a directory that the daemon's user may read?"};
}

}  // namespace

std::expected<WrittenWatch, Error> WrittenWatch::start(const std::filesystem::path& directory) {
  WrittenWatch watch(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (watch.fd_ < 0 || ::inotify_add_watch(watch.fd_, directory.c_str(), IN_MODIFY | IN_ONLYDIR) < 0)
    return std::unexpected(cannot_watch(errno, directory));
  return watch;
}

WrittenWatch::~WrittenWatch() {
  if (fd_ >= 0) ::close(fd_);
}

bool WrittenWatch::take() {
  std::array<std::byte, kBufferBytes> events;
  bool written = false;
  // A read that leaves room has taken all there was.
  for (std::size_t got = events.size(); events.size() - got < sizeof(inotify_event) + NAME_MAX + 1;) {
    const ssize_t read = ::read(fd_, events.data(), events.size());
    if (read <= 0) return written;
    got = static_cast<std::size_t>(read);
    for (std::size_t at = 0; at + sizeof(inotify_event) <= got;) written |= tells_of_a_write(events.data(), at);
  }
  return written;
}

}  // namespace slipstream::wal::io
