#include "app/bypass_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "wal/io/files.h"

namespace slipstream::app {
namespace {

std::optional<BypassEntry> parsed(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    return BypassEntry{json.at("bypass").get<std::string>() == "on",
                       json.at("since").get<std::string>(),
                       json.at("by").get<std::string>(),
                       json.at("reason").get<std::string>(),
                       json.at("names_before").get<std::string>(),
                       json.at("by_alter_system").get<bool>()};
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

Json to_json(const BypassEntry& entry) {
  return {{"bypass", entry.on ? "on" : "off"},
          {"since", entry.since},
          {"by", entry.by},
          {"reason", entry.reason},
          {"names_before", entry.names_before},
          {"by_alter_system", entry.by_alter_system}};
}

std::expected<void, Error> BypassJournal::append(const BypassEntry& entry) {
  const auto failed = [&](const char* what) {
    return std::unexpected(Error{ExitCode::kStorage, fmt::format("{}: {}", what, std::strerror(errno)), path_.string(),
                                 "make room, or give the directory to the daemon's user; nothing was changed"});
  };
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return failed("cannot open the record of bypasses");
  // Begins a line of its own behind one that was torn.
  const std::string line = "\n" + to_json(entry).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const bool kept = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  const int problem = errno;
  ::close(fd);
  errno = problem;
  if (!kept) return failed("cannot record the bypass");
  if ((errno = wal::io::sync_directory(path_.parent_path())) != 0) return failed("cannot record the bypass");
  return {};
}

std::expected<std::optional<BypassEntry>, Error> BypassJournal::newest() const {
  std::error_code absent;
  if (!std::filesystem::exists(path_, absent)) return std::nullopt;
  std::ifstream in(path_);
  if (!in)
    return std::unexpected(Error{ExitCode::kDirectory, "cannot read the record of bypasses", path_.string(),
                                 "give it to the daemon's user"});
  std::optional<BypassEntry> newest;
  for (std::string line; std::getline(in, line);)
    if (auto entry = parsed(line)) newest = std::move(entry);
  return newest;
}

}  // namespace slipstream::app
