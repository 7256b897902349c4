#include "app/bench/generated_wal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/digest.h"
#include "wal/io/files.h"

namespace slipstream::app::bench {
namespace {

constexpr TimelineId kTimeline{1};
constexpr std::uint64_t kChunkBytes = 128u << 10;  // As walsenders send at most. It divides 1 MiB.

}  // namespace

GeneratedWal::GeneratedWal(std::filesystem::path directory) : directory_(std::move(directory)) {}

GeneratedWal::~GeneratedWal() {
  if (fd_ >= 0) ::close(fd_);
}

std::expected<LsnRange, Error> GeneratedWal::write(std::size_t payload_bytes) {
  writer_.forget();
  writer_.record(payload_bytes);
  const LsnRange range{writer_.begin(), writer_.end()};
  chunks_.clear();
  for (Lsn at = range.begin; at < range.end;) {
    const Lsn next = std::min(range.end, Lsn{(at.value / kChunkBytes + 1) * kChunkBytes});
    const auto bytes = writer_.at({at, next});
    if (auto done = put(at, bytes); !done) return std::unexpected(done.error());
    chunks_.push_back({{at, next}, xxh3_64(bytes)});
    at = next;
  }
  return range;
}

std::expected<void, Error> GeneratedWal::put(Lsn at, std::span<const std::byte> bytes) {
  if (fd_ < 0 || layout_.number_of(at) != number_)
    if (auto opened = open_segment(layout_.number_of(at)); !opened) return opened;
  const auto offset = static_cast<off_t>(layout_.offset_of(at));
  if (pwrite(fd_, bytes.data(), bytes.size(), offset) != static_cast<ssize_t>(bytes.size()))
    return std::unexpected(failure("cannot write WAL"));
  return {};
}

std::expected<void, Error> GeneratedWal::open_segment(std::uint64_t number) {
  if (fd_ >= 0) ::close(fd_);
  number_ = number;
  const auto path = directory_ / layout_.file_name(kTimeline, number);
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd_ < 0) return std::unexpected(failure("cannot make a segment"));
  if (const int problem = posix_fallocate(fd_, 0, static_cast<off_t>(kSegmentSize.value)); problem != 0) {
    errno = problem;
    return std::unexpected(failure("no room for a segment of 16 MB"));
  }
  return {};
}

void GeneratedWal::remove_before(Lsn end) { wal::io::remove_segments_before(directory_, layout_, end); }

Error GeneratedWal::failure(const char* what) const {
  return {ExitCode::kStorage, std::string(what) + ": " + std::strerror(errno), directory_.string(),
          "name another --directory"};
}

}  // namespace slipstream::app::bench
