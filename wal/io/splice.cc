#include "wal/io/splice.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "wal/io/files.h"

namespace slipstream::wal::io {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;

std::unexpected<Error> missing(Lsn at, const std::string& where) {
  return std::unexpected(Error{ExitCode::kDirectory, "the log cannot be read at " + to_string(at), where,
                               "was a segment removed meanwhile, or not copied? repeat with a whole copy"});
}

// The end of what could be read; `out` is at most a segment's.
Lsn read_all(SegmentSource& source, Lsn at, std::span<std::byte> out) {
  while (!out.empty()) {
    const std::size_t got = source.read(at, out);
    if (got == 0) break;
    at = at + ByteCount{got};
    out = out.subspan(got);
  }
  return at;
}

// Writes and syncs; a file that is closed again either way.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)), problem_(fd_ < 0 ? errno : 0) {}
  ~NewFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void append(std::span<const std::byte> bytes) {
    while (problem_ == 0 && !bytes.empty()) {
      const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) problem_ = put < 0 ? errno : ENOSPC;
      if (put > 0) bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
  }
  int finish() {  // 0, or an errno.
    if (problem_ == 0 && ::fsync(fd_) != 0) problem_ = errno;
    return problem_;
  }

 private:
  int fd_;
  int problem_;
};

}  // namespace

std::expected<std::optional<Lsn>, Error> first_difference(SegmentSource& a, SegmentSource& b, LsnRange range) {
  std::vector<std::byte> of_a(kPieceBytes), of_b(kPieceBytes);
  for (Lsn at = range.begin; at < range.end;) {
    const Lsn end = std::min(range.end, align_down(at, kPieceBytes) + ByteCount{kPieceBytes});
    const std::size_t bytes = (end - at).value;
    for (auto [source, into] : {std::pair{&a, &of_a}, std::pair{&b, &of_b}})
      if (const Lsn got = read_all(*source, at, std::span(*into).first(bytes)); got != end)
        return missing(got, source == &a ? "the one log" : "the other log");
    const auto differ = std::mismatch(of_a.begin(), of_a.begin() + static_cast<std::ptrdiff_t>(bytes), of_b.begin());
    const auto equal = static_cast<std::uint64_t>(differ.first - of_a.begin());
    if (equal < bytes) return at + ByteCount{equal};
    at = end;
  }
  return std::nullopt;
}

std::expected<void, Error> splice_segment(const std::filesystem::path& path, SegmentLayout layout, Lsn begin,
                                          SegmentSource& head, Lsn seam, SegmentSource& tail, Lsn end) {
  const std::filesystem::path fresh =
      path.parent_path() / (std::string(kTemporaryPrefix) + "splice." + path.filename().string());
  const auto storage = [](const std::string& what, const std::filesystem::path& where, int problem) {
    return std::unexpected(Error{ExitCode::kStorage, what + ": " + std::strerror(problem), where.string(),
                                 "look at the file system's free space and the kernel's log, then repeat"});
  };
  {
    NewFile file(fresh);
    std::vector<std::byte> piece(kPieceBytes);
    for (Lsn at = begin; at < layout.segment_end(begin); at = at + ByteCount{kPieceBytes}) {
      std::ranges::fill(piece, std::byte{0});
      const Lsn piece_end = at + ByteCount{kPieceBytes};
      const auto take = [&](SegmentSource& source, Lsn from, Lsn to) -> std::optional<Lsn> {
        if (from >= to) return std::nullopt;
        const Lsn got = read_all(source, from, std::span(piece).subspan((from - at).value, (to - from).value));
        return got == to ? std::nullopt : std::optional(got);
      };
      const Lsn joint = std::clamp(seam, at, piece_end);
      if (const auto lacks = take(head, at, std::min(joint, end))) return missing(*lacks, path.string());
      if (const auto lacks = take(tail, joint, std::min(end, piece_end)))
        return missing(*lacks, "the log that is adopted");
      file.append(piece);
    }
    if (const int problem = file.finish(); problem != 0) {
      ::unlink(fresh.c_str());
      return storage("cannot write durably", fresh, problem);
    }
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0)
    return storage("cannot rename to " + path.filename().string(), fresh, errno);
  if (const int problem = sync_directory(path.parent_path()); problem != 0)
    return storage("cannot sync the directory", path.parent_path(), problem);
  return {};
}

}  // namespace slipstream::wal::io
