#include "postgres/feed_socket.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace slipstream::postgres {
namespace {

// Is there a server behind this path?
bool answered(const sockaddr_un& address) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const bool yes = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;
  ::close(fd);
  return yes;
}

}  // namespace

std::expected<FeedSocket, Error> FeedSocket::listen(const std::filesystem::path& directory, std::uint16_t port) {
  const std::filesystem::path path = directory / fmt::format(".s.PGSQL.{}", port);
  const auto fail = [&](std::string what, std::string remedy) {
    return std::unexpected(Error{ExitCode::kConfiguration, std::move(what), path.string(), std::move(remedy)});
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.string().size() >= sizeof address.sun_path)
    return fail(fmt::format("the socket's path is longer than {} bytes", sizeof address.sun_path - 1),
                "set replica.feed.socket_directory to a shorter path");
  std::memcpy(address.sun_path, path.c_str(), path.string().size() + 1);
  std::error_code problem;
  std::filesystem::create_directories(directory, problem);
  if (problem)
    return fail(fmt::format("cannot make the socket's directory: {}", problem.message()),
                "set replica.feed.socket_directory to a place this user may write to");
  struct stat found{};
  if (::lstat(path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode))
      return fail("something that is no socket is in the socket's place",
                  "move it away, or set another replica.feed.port");
    if (answered(address))
      return fail("another server answers on this socket",
                  "set another replica.feed.port or replica.feed.socket_directory");
    ::unlink(path.c_str());
  }
  FeedSocket out(path, ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (out.fd_ < 0 || ::bind(out.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    out.path_.clear();  // Not ours to remove.
    return fail(fmt::format("cannot open the feed's socket: {}", std::strerror(error)),
                "set replica.feed.socket_directory to a place this user may write to");
  }
  // Whoever may not read is told so, which needs a connection.
  if (::chmod(path.c_str(), 0777) != 0 || ::listen(out.fd_, 16) != 0)
    return fail(fmt::format("cannot open the feed's socket: {}", std::strerror(errno)),
                "set replica.feed.socket_directory to a place this user may write to");
  return out;
}

FeedSocket::~FeedSocket() {
  if (fd_ < 0) return;
  if (!path_.empty()) ::unlink(path_.c_str());
  ::close(fd_);
}

int FeedSocket::accept() const { return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); }

SocketPeer peer_of(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  const bool known = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0;
  return {known, credentials.uid};
}

std::string user_name(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  const bool there = ::getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr;
  return there ? std::string(entry.pw_name) : std::to_string(uid);
}

std::expected<std::vector<uid_t>, Error> user_ids(const std::vector<std::string>& names) {
  std::vector<uid_t> out;
  for (const std::string& name : names) {
    passwd entry{};
    passwd* found = nullptr;
    char buffer[4096];
    if (::getpwnam_r(name.c_str(), &entry, buffer, sizeof buffer, &found) != 0 || !found)
      return std::unexpected(Error{ExitCode::kConfiguration,
                                   fmt::format("there is no operating-system user \"{}\"", name),
                                   "replica.feed.allow_users", "name users of this host"});
    out.push_back(entry.pw_uid);
  }
  return out;
}

}  // namespace slipstream::postgres
