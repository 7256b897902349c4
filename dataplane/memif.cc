#include "dataplane/memif.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/nearest.h"

namespace slipstream::dataplane {
namespace {

struct Address {
  sockaddr_un un{};
  socklen_t bytes = 0;
};

// As the driver forms it: abstract names are not padded with zeros.
std::optional<Address> address_of(const MemifOptions& options) {
  Address out;
  out.un.sun_family = AF_UNIX;
  const std::size_t skip = options.is_abstract ? 1 : 0;
  if (options.socket.size() + 1 + skip > sizeof out.un.sun_path) return std::nullopt;
  std::memcpy(out.un.sun_path + skip, options.socket.data(), options.socket.size());
  out.bytes = options.is_abstract ? static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + options.socket.size())
                                  : static_cast<socklen_t>(sizeof out.un);
  return out;
}

// A datagram socket cannot connect to a listener of another type, and the kernel says so only when there is one: the
// listener notices nothing.
bool somebody_listens(const Address& address) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address.un), address.bytes) == 0;
  const bool alive = connected || errno == EPROTOTYPE;
  ::close(fd);
  return alive;
}

Error error(const Vdev& vdev, std::string what, std::string remedy) {
  return {ExitCode::kPort, std::move(what), "vdev " + vdev.name(), std::move(remedy)};
}

std::expected<void, Error> check_options(const Vdev& vdev) {
  const std::array<std::string, 9> known{"role",  "id",  "socket", "socket-abstract", "bsize",
                                         "rsize", "mac", "secret", "zero-copy"};
  for (const std::string& key : vdev.keys()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    const auto close = nearest(key, known);
    return std::unexpected(
        error(vdev, "memif has no option \"" + key + "\"" + (close ? ", did you mean \"" + *close + "\"?" : ""),
              "its options are role, id, socket, socket-abstract, bsize, rsize, mac, secret"));
  }
  if (vdev.option("zero-copy").value_or("no") != "no")
    return std::unexpected(error(vdev, "zero-copy is not supported", "leave zero-copy out"));
  return {};
}

std::expected<void, Error> prepare_directory(const Vdev& vdev, const std::filesystem::path& directory) {
  std::error_code problem;
  std::filesystem::create_directories(directory, problem);
  if (problem)
    return std::unexpected(
        error(vdev, "the memif socket's directory " + directory.string() + " cannot be made: " + problem.message(),
              "make it, writable by the users of both daemons, or choose another socket="));
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0)
    return std::unexpected(error(
        vdev,
        "the memif socket's directory " + directory.string() + " may not be read and written: " + std::strerror(errno),
        "give this user access to it, or choose another socket="));
  return {};
}

std::expected<void, Error> remove_stale(const Vdev& vdev, const MemifOptions& options, const Address& address) {
  struct stat info{};
  if (::lstat(options.socket.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode))
    return std::unexpected(
        error(vdev, options.socket + " exists and is no socket", "remove it, or choose another socket="));
  if (somebody_listens(address))
    return std::unexpected(error(vdev, "another process already listens on " + options.socket,
                                 "stop it, or choose another socket=; a link has one server"));
  if (::unlink(options.socket.c_str()) == 0) return {};
  return std::unexpected(error(vdev,
                               "the socket file " + options.socket +
                                   " that an earlier process left behind cannot be removed: " + std::strerror(errno),
                               "remove it, or give this user access to its directory"));
}

}  // namespace

bool is_memif(const Vdev& vdev) { return vdev.driver() == "net_memif"; }

MemifOptions MemifOptions::of(const Vdev& vdev) {
  MemifOptions out;
  const std::string role = vdev.option("role").value_or("client");
  out.is_server = role == "server" || role == "master";
  out.is_abstract = vdev.option("socket-abstract").value_or("yes") != "no";
  out.socket = vdev.option("socket").value_or(out.socket);
  out.id = vdev.option("id").value_or(out.id);
  if (const auto bytes = vdev.option("bsize"))
    out.buffer_bytes = static_cast<std::uint32_t>(std::strtoul(bytes->c_str(), nullptr, 10));
  return out;
}

std::expected<void, Error> prepare_memif(const Vdev& vdev) {
  if (auto known = check_options(vdev); !known) return known;
  const MemifOptions options = MemifOptions::of(vdev);
  const auto address = address_of(options);
  if (!address)
    return std::unexpected(error(vdev, "the socket's path " + options.socket + " is too long for a UNIX socket",
                                 "choose a socket= of at most 106 bytes"));
  if (options.is_abstract) return {};
  if (auto made = prepare_directory(vdev, std::filesystem::path(options.socket).parent_path()); !made) return made;
  return options.is_server ? remove_stale(vdev, options, *address) : std::expected<void, Error>{};
}

MemifServerProbe::~MemifServerProbe() { disconnect(); }

void MemifServerProbe::disconnect() {
  if (connection_ >= 0) ::close(connection_);
  connection_ = -1;
}

bool MemifServerProbe::is_greeted() {
  if (connection_ < 0) {
    const auto address = address_of(options_);
    connection_ = address ? ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    if (connection_ >= 0 &&
        ::connect(connection_, reinterpret_cast<const sockaddr*>(&address->un), address->bytes) != 0)
      disconnect();
    return false;
  }
  pollfd wait{connection_, POLLIN, 0};
  if (::poll(&wait, 1, 0) <= 0) return false;
  const bool greeted = (wait.revents & POLLIN) != 0 && (wait.revents & POLLERR) == 0;
  std::array<std::byte, 256> greeting;
  const bool complete = greeted && ::recv(connection_, greeting.data(), greeting.size(), 0) > 0;
  disconnect();
  return complete;
}

}  // namespace slipstream::dataplane
