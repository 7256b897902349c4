#include "wal/io/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace slipstream::wal::io {
namespace {

std::unexpected<Error> refused(std::string what, const std::filesystem::path& directory, std::string remedy) {
  return std::unexpected(Error{ExitCode::kDirectory, std::move(what), directory.string(), std::move(remedy)});
}

}  // namespace

std::expected<DirectoryLock, Error> DirectoryLock::acquire(const std::filesystem::path& directory) {
  const int fd = ::open((directory / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return refused(std::string("cannot use the directory: ") + std::strerror(errno), directory,
                   "create it, and give it to the user that runs the daemon");
  DirectoryLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return refused(std::string("cannot lock the directory: ") + std::strerror(errno), directory,
                     "use a local file system, or one that has locks");
    char holder[32] = {};
    const ssize_t got = ::pread(fd, holder, sizeof holder - 1, 0);
    const std::string who = got > 0 ? std::string(" (pid ") + holder + ")" : "";
    return refused("another process" + who + " is using the directory", directory,
                   "one daemon per directory: stop that one first");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0)
    return refused(std::string("cannot write the lock file: ") + std::strerror(errno), directory,
                   "look at the file system's free space and mount options");
  return lock;
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace slipstream::wal::io
