#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace slipstream::postgres {

// A listening unix socket where PostgreSQL's clients look for one: DIRECTORY/.s.PGSQL.PORT. Anyone may connect; who may
// stay is decided by the peer's credentials. A socket that somebody answers on is never taken over; a dead one is.
// Removed with the object.
class FeedSocket {
 public:
  // Errors: kConfiguration.
  static std::expected<FeedSocket, Error> listen(const std::filesystem::path& directory, std::uint16_t port);
  FeedSocket(FeedSocket&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  FeedSocket& operator=(FeedSocket&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FeedSocket();

  int fd() const { return fd_; }
  int accept() const;  // Non-blocking; -1 when nobody waits.

 private:
  FeedSocket(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::filesystem::path path_;
  int fd_ = -1;
};

struct SocketPeer {
  bool known = false;
  uid_t uid = 0;
};
SocketPeer peer_of(int fd);
std::string user_name(uid_t uid);  // "1234" when it has none.
std::expected<std::vector<uid_t>, Error> user_ids(const std::vector<std::string>& names);

}  // namespace slipstream::postgres
