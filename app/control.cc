#include "app/control.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace slipstream::app {
namespace {

constexpr std::size_t kRequestBytesMax = 1 << 20;

std::expected<sockaddr_un, Error> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return std::unexpected(
        Error{ExitCode::kConfiguration,
              fmt::format("a socket's path may have {} characters at most", sizeof address.sun_path - 1), path,
              "set runtime.control_socket to a shorter path"});
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Reads up to a newline. False on time-out, end or too much.
bool read_line(int fd, std::string& line, int timeout_ms) {
  char buffer[4096];
  while (line.find('\n') == std::string::npos) {
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, timeout_ms) <= 0) return false;
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0 || line.size() > 64 * kRequestBytesMax) return false;
    line.append(buffer, static_cast<std::size_t>(got));
  }
  line.resize(line.find('\n'));
  return true;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (put <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

Json to_json(const Error& error) {
  return {
      {"code", static_cast<int>(error.code)}, {"what", error.what}, {"where", error.where}, {"remedy", error.remedy}};
}

}  // namespace

std::expected<std::unique_ptr<ControlServer>, Error> ControlServer::start(const std::string& path, Handler handler) {
  const auto address = socket_address(path);
  if (!address) return std::unexpected(address.error());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(path.c_str());  // A stale one: the directory's lock already makes sure that no other daemon lives.
  const mode_t before = umask(0177);
  const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
  umask(before);
  if (bound != 0 || listen(fd, 8) != 0) {
    const Error error{ExitCode::kConfiguration, fmt::format("cannot open the control socket: {}", std::strerror(errno)),
                      path, "set runtime.control_socket to a place this user may write to"};
    close(fd);
    return std::unexpected(error);
  }
  return std::unique_ptr<ControlServer>(new ControlServer(fd, path, std::move(handler)));
}

ControlServer::ControlServer(int listener, std::string path, Handler handler)
    : listener_(listener), path_(std::move(path)), handler_(std::move(handler)), thread_([this] { serve(); }) {}

ControlServer::~ControlServer() {
  stop_ = true;
  thread_.join();
  close(listener_);
  unlink(path_.c_str());
}

void ControlServer::serve() {
  while (!stop_) {
    pollfd wait{listener_, POLLIN, 0};
    if (poll(&wait, 1, 100) <= 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    answer(client);
    close(client);
  }
}

std::expected<Json, Error> ControlServer::handle(const Json& request) const {
  const auto wrong = [&](const std::exception& problem) {
    return std::unexpected(Error{ExitCode::kUsage, fmt::format("a field of the request is wrong: {}", problem.what()),
                                 path_, "use the slipstream command"});
  };
  try {
    return handler_(request);
  } catch (const Json::exception& problem) {
    return wrong(problem);
  } catch (const std::invalid_argument& problem) {
    return wrong(problem);
  }
}

void ControlServer::answer(int client) {
  std::string line;
  if (!read_line(client, line, 5000)) return;
  const Json request = Json::parse(line, nullptr, false);
  Json reply;
  if (request.is_discarded() || !request.is_object() || !request.contains("command") ||
      !request["command"].is_string()) {
    reply["error"] = to_json({ExitCode::kUsage, "not a request: one JSON object with a \"command\" a line", path_, ""});
  } else if (const auto result = handle(request)) {
    reply["ok"] = *result;
  } else {
    reply["error"] = to_json(result.error());
  }
  write_all(client, reply.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::expected<Json, Error> control_call(const std::string& path, const Json& request, std::chrono::seconds timeout) {
  const auto address = socket_address(path);
  if (!address) return std::unexpected(address.error());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto fail = [&](const std::string& what) {
    close(fd);
    return std::unexpected(
        Error{ExitCode::kUnreachable, what, path, "is the daemon running? start it with: slipstream run -c FILE"});
  };
  if (connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
    return fail(fmt::format("the daemon's control socket does not answer: {}", std::strerror(errno)));
  std::string line;
  if (!write_all(fd, request.dump() + "\n") || !read_line(fd, line, static_cast<int>(timeout.count()) * 1000))
    return fail("the daemon did not answer in time");
  close(fd);
  const Json reply = Json::parse(line, nullptr, false);
  if (reply.is_discarded() || !reply.is_object())
    return std::unexpected(Error{ExitCode::kUnreachable, "the daemon's answer is not JSON", path, ""});
  if (reply.contains("error")) {
    const Json& error = reply["error"];
    return std::unexpected(Error{static_cast<ExitCode>(error.value("code", 1)), error.value("what", ""),
                                 error.value("where", ""), error.value("remedy", "")});
  }
  return reply.value("ok", Json::object());
}

}  // namespace slipstream::app
