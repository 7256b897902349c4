#pragma once

#include <expected>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace slipstream::wal::io {

// Tells when files of a directory are written to: inotify's IN_MODIFY. The directory must stay the one it is.
class WrittenWatch {
 public:
  static std::expected<WrittenWatch, Error> start(const std::filesystem::path& directory);
  ~WrittenWatch();
  WrittenWatch(WrittenWatch&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  WrittenWatch& operator=(WrittenWatch&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int fd() const { return fd_; }  // Readable from a write on until take().
  bool take();                    // Whether anything was written since the last call, perhaps. Never waits.

 private:
  explicit WrittenWatch(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace slipstream::wal::io
