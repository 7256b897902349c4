#include "wal/io/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

namespace slipstream::wal::io {
namespace {

std::unexpected<Error> storage_error(const std::string& what, const std::filesystem::path& path, int problem) {
  return std::unexpected(
      Error{ExitCode::kStorage, what + ": " + std::strerror(problem), path.string(),
            "look at the file system's free space, its mount options, the file's owner and the kernel's log"});
}

std::unexpected<Error> directory_error(std::string what, const std::filesystem::path& path, std::string remedy) {
  return std::unexpected(Error{ExitCode::kDirectory, std::move(what), path.string(), std::move(remedy)});
}

// 0, or an errno.
int write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? errno : ENOSPC;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return 0;
}

int write_new_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  int problem = write_all(fd, content);
  if (problem == 0 && ::fsync(fd) != 0) problem = errno;
  ::close(fd);
  return problem;
}

// The names in a directory; an errno when it cannot be read.
std::expected<std::vector<std::string>, int> names_in(const std::filesystem::path& directory) {
  DIR* open = ::opendir(directory.c_str());
  if (!open) return std::unexpected(errno);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(open)) names.emplace_back(entry->d_name);
  ::closedir(open);
  return names;
}

bool looks_like_segment(std::string_view name) {
  return name.size() == 24 && name.find_first_not_of("0123456789ABCDEF") == std::string_view::npos;
}

// The common half of both checks. Returns how many segments there are.
std::expected<std::size_t, Error> check_segments(const std::filesystem::path& directory, SegmentLayout layout,
                                                 const std::string& wanted, const std::string& size_remedy) {
  struct stat info{};
  if (::stat(directory.c_str(), &info) != 0)
    return directory_error(std::string("no WAL directory: ") + std::strerror(errno), directory, "name " + wanted);
  if (!S_ISDIR(info.st_mode)) return directory_error("not a directory", directory, "name " + wanted);
  const auto names = names_in(directory);
  if (!names)
    return directory_error(
        std::string("the WAL directory is not readable for this user: ") + std::strerror(names.error()), directory,
        "run the daemon as the user that owns the directory (PostgreSQL's)");
  const std::string size = std::to_string(layout.segment_size().value);
  std::size_t count = 0;
  for (const std::string& name : *names) {
    if (!looks_like_segment(name)) continue;
    const auto path = directory / name;
    if (::stat(path.c_str(), &info) != 0) continue;  // Removed meanwhile.
    if (!layout.parse(name) || static_cast<std::uint64_t>(info.st_size) != layout.segment_size().value)
      return directory_error("wrong segment size: " + name + " has " + std::to_string(info.st_size) +
                                 " bytes, but the cluster's segments have " + size,
                             directory, size_remedy);
    if (::access(path.c_str(), R_OK) != 0)
      return directory_error(name + " is not readable for this user: " + std::strerror(errno), directory,
                             "run the daemon as the user that owns the directory (PostgreSQL's)");
    ++count;
  }
  return count;
}

struct Failed {
  Error error;
  int number;
};

std::optional<Failed> replace(const std::filesystem::path& path, std::span<const std::byte> content) {
  const auto failed = [](const std::string& what, const std::filesystem::path& where, int problem) {
    return Failed{storage_error(what, where, problem).error(), problem};
  };
  const std::filesystem::path fresh = path.string() + ".new";
  if (const int problem = write_new_file(fresh, content); problem != 0) {
    ::unlink(fresh.c_str());
    return failed("cannot write durably", fresh, problem);
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0)
    return failed("cannot rename to " + path.filename().string(), fresh, errno);
  if (const int problem = sync_directory(path.parent_path()); problem != 0)
    return failed("cannot sync the directory", path.parent_path(), problem);
  return std::nullopt;
}

}  // namespace

int sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int problem = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return problem;
}

std::expected<void, Error> durable_replace(const std::filesystem::path& path, std::span<const std::byte> content) {
  const auto failed = replace(path, content);
  if (failed) return std::unexpected(failed->error);
  return {};
}

std::expected<bool, Error> durable_replace_if_room(const std::filesystem::path& path,
                                                   std::span<const std::byte> content) {
  const auto failed = replace(path, content);
  if (failed && failed->number != ENOSPC && failed->number != EDQUOT) return std::unexpected(failed->error);
  return !failed;
}

std::expected<std::vector<std::byte>, Error> read_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return directory_error(std::string("cannot open the file: ") + std::strerror(errno), path,
                           "check the path, and that this user may read it");
  std::vector<std::byte> content;
  std::byte buffer[16384];
  int problem = 0;
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got > 0)
      content.insert(content.end(), buffer, buffer + got);
    else if (got == 0)
      break;
    else if (errno != EINTR && (problem = errno) != 0)
      break;
  }
  ::close(fd);
  if (problem != 0) return storage_error("cannot read", path, problem);
  return content;
}

std::expected<std::vector<std::byte>, Error> read_durable(const std::filesystem::path& path) {
  auto content = read_file(path);
  if (!content) return content;
  if (const int problem = sync_directory(path.parent_path()); problem != 0)
    return storage_error("cannot make the directory of the file durable", path, problem);
  return content;
}

std::expected<void, Error> check_wal_directory(const std::filesystem::path& directory, SegmentLayout layout) {
  const auto count = check_segments(directory, layout, "the server's pg_wal",
                                    "check that this is the WAL directory of this cluster (SHOW wal_segment_size)");
  if (!count) return std::unexpected(count.error());
  if (*count == 0)
    return directory_error("no WAL segments in it", directory, "name the pg_wal directory of the running server");
  return {};
}

std::expected<void, Error> check_replica_directory(const std::filesystem::path& directory, SegmentLayout layout,
                                                   LogUse use) {
  const auto count = check_segments(directory, layout, "the replica's directory",
                                    "it was truncated or comes from elsewhere: copy the segment of this name from the "
                                    "primary's pg_wal, or make the replica anew with init-standby");
  if (!count) return std::unexpected(count.error());
  if (use == LogUse::kWrite && ::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    return directory_error(std::string("the directory is not writable for this user: ") + std::strerror(errno),
                           directory, "give it to the user that runs the daemon");
  return {};
}

std::vector<SegmentFile> list_segments(const std::filesystem::path& directory, SegmentLayout layout) {
  std::vector<SegmentFile> out;
  for (const std::string& name : names_in(directory).value_or(std::vector<std::string>{})) {
    const auto parsed = layout.parse(name);
    if (parsed && !parsed->partial) out.push_back({parsed->timeline, parsed->number, directory / name});
  }
  std::ranges::sort(out, {}, [](const SegmentFile& f) { return std::pair(f.number, f.timeline); });
  return out;
}

std::size_t remove_segments_before(const std::filesystem::path& directory, SegmentLayout layout, Lsn keep_from) {
  std::size_t removed = 0;
  for (const SegmentFile& segment : list_segments(directory, layout))
    if (layout.begin_of(segment.number + 1) <= keep_from && ::unlink(segment.path.c_str()) == 0) ++removed;
  return removed;
}

std::expected<void, Error> sync_segments_from(const std::filesystem::path& directory, SegmentLayout layout, Lsn from) {
  for (const SegmentFile& segment : list_segments(directory, layout)) {
    if (segment.number < layout.number_of(from)) continue;
    const int fd = ::open(segment.path.c_str(), O_RDONLY | O_CLOEXEC);
    int problem = fd < 0 ? errno : 0;
    if (problem == 0 && ::fdatasync(fd) != 0) problem = errno;
    if (fd >= 0) ::close(fd);
    if (problem != 0) return storage_error("cannot make durable", segment.path, problem);
  }
  if (const int problem = sync_directory(directory); problem != 0)
    return storage_error("cannot sync the directory", directory, problem);
  return {};
}

void remove_temporary_files(const std::filesystem::path& directory) {
  for (const std::string& name : names_in(directory).value_or(std::vector<std::string>{}))
    if (name.starts_with(kTemporaryPrefix)) ::unlink((directory / name).c_str());
}

}  // namespace slipstream::wal::io
