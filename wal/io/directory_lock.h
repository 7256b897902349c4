#pragma once

#include <expected>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace slipstream::wal::io {

// Held while a daemon uses a directory; a second one is refused (kDirectory) with the holder's pid.
// An flock on the file `lock` in it: released with the object or the process, however that ends; the file stays.
class DirectoryLock {
 public:
  static std::expected<DirectoryLock, Error> acquire(const std::filesystem::path& directory);
  DirectoryLock(DirectoryLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  DirectoryLock& operator=(DirectoryLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~DirectoryLock();

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace slipstream::wal::io
