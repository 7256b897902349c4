#include "app/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace slipstream::app {

namespace {

// What comes until the other end is closed.
std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

// `output`: where its standard output goes; null: to ours.
std::expected<void, Error> run(const std::vector<std::string>& command, const std::string& user, ExitCode code,
                               std::string* output) {
  const bool change_user = geteuid() == 0 && !user.empty();
  const passwd* entry = change_user ? getpwnam(user.c_str()) : nullptr;
  if (change_user && !entry)
    return std::unexpected(Error{ExitCode::kUsage, fmt::format("there is no user \"{}\"", user), "--user",
                                 "name the user that runs PostgreSQL"});
  std::vector<char*> arguments;
  for (const std::string& each : command) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  int ends[2] = {-1, -1};
  if (output && ::pipe2(ends, O_CLOEXEC) != 0)
    return std::unexpected(Error{ExitCode::kInternal, std::strerror(errno), command[0], ""});
  const pid_t child = fork();
  if (child == 0) {
    if (output && ::dup2(ends[1], STDOUT_FILENO) < 0) _exit(126);
    if (entry &&
        (initgroups(entry->pw_name, entry->pw_gid) != 0 || setgid(entry->pw_gid) != 0 || setuid(entry->pw_uid) != 0))
      _exit(126);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  if (output) {
    ::close(ends[1]);
    *output = read_all(ends[0]);
    ::close(ends[0]);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child)
    return std::unexpected(
        Error{ExitCode::kInternal, std::string("cannot start it: ") + std::strerror(errno), command[0], ""});
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const int result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return std::unexpected(
      Error{code, result == 127 ? "there is no such program" : fmt::format("ended with status {}", result), command[0],
            result == 127 ? "install postgresql-client" : "its own message stands above"});
}

}  // namespace

std::expected<void, Error> run_program(const std::vector<std::string>& command, const std::string& user,
                                       ExitCode code) {
  return run(command, user, code, nullptr);
}

std::expected<std::string, Error> output_of_program(const std::vector<std::string>& command, const std::string& user,
                                                    ExitCode code) {
  std::string output;
  const auto done = run(command, user, code, &output);
  if (!done) return std::unexpected(done.error());
  return output;
}

std::string postgres_program(const std::string& name, std::uint32_t server_version_num) {
  const std::string debian = fmt::format("/usr/lib/postgresql/{}/bin/{}", server_version_num / 10000, name);
  return std::filesystem::exists(debian) ? debian : name;
}

}  // namespace slipstream::app
