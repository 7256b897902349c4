#include "wal/io/stale_pages.h"

#include <endian.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <expected>
#include <optional>

namespace slipstream::wal::io {
namespace {

constexpr off_t kAddressAt = 8;  // xlp_pageaddr in XLogPageHeaderData.
constexpr std::uint64_t kRecordBytesMax = 1u << 30;
constexpr std::uint64_t kReadAhead = 2u << 20;

class File {
 public:
  explicit File(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// What an 8-byte read of a page's header finds; nothing behind the file's end. An errno where it cannot be read.
std::expected<std::optional<Lsn>, int> address_at(int fd, std::uint64_t offset) {
  std::uint64_t address = 0;
  ssize_t got = 0;
  do got = ::pread(fd, &address, sizeof address, static_cast<off_t>(offset) + kAddressAt);
  while (got < 0 && errno == EINTR);
  if (got < 0) return std::unexpected(errno);
  if (got != sizeof address) return std::nullopt;
  return Lsn{le64toh(address)};
}

// The end of the last page at its own position from `first` to the end of its segment; nothing if there is none. Every
// page is looked at: a power cut leaves any of them.
std::expected<std::optional<Lsn>, int> last_own_page(const std::filesystem::path& path, SegmentLayout layout,
                                                     Lsn first) {
  const File file(path);
  if (file.get() < 0) {
    if (errno == ENOENT) return std::nullopt;
    return std::unexpected(errno);
  }
  std::optional<Lsn> last;
  const Lsn end = layout.segment_end(first);
  for (Lsn at = first; at < end; at = at + ByteCount{kPageBytes}) {
    const std::uint64_t offset = layout.offset_of(at);
    // The kernel takes so thin a trickle of reads for random ones.
    if (at == first || offset % kReadAhead == 0)
      (void)::posix_fadvise(file.get(), static_cast<off_t>(offset), kReadAhead, POSIX_FADV_WILLNEED);
    const auto address = address_at(file.get(), offset);
    if (!address) return std::unexpected(address.error());
    if (!*address) return last;
    if (**address == at) last = at + ByteCount{kPageBytes};
  }
  return last;
}

}  // namespace

// Which files: PostgreSQL's XLogWrite() syncs a segment when it has written its last page, before it opens the next one
// for writing. So what a power cut can take lies within one segment, and nothing was written behind that one. Recovery
// ends in it; or in the one before, where a record began whose remainder is gone. Two files then; but minor versions
// without XLOG_OVERWRITE_CONTRECORD (13.4, 14.0) go on where a lost record began, and one of up to 1 GiB may have
// filled several segments. These are full of pages at their own positions, so it is looked on until a file has none: of
// those behind, which are made ahead of need out of zeros or older segments, none was written to.
Lsn stale_pages_end(const std::filesystem::path& wal, SegmentLayout layout, TimelineId timeline, Lsn flushed_end) {
  Lsn found = flushed_end;
  const std::uint64_t number = layout.number_of(flushed_end);
  const std::uint64_t last = number + 1 + kRecordBytesMax / layout.segment_size().value;
  for (std::uint64_t n = number; n <= last; ++n) {
    const Lsn first = std::max(layout.begin_of(n), align_up(flushed_end, kPageBytes));
    if (layout.number_of(first) != n) continue;  // The flushed position is on the segment's last page.
    const auto own = last_own_page(wal / layout.file_name(timeline, n), layout, first);
    if (!own) return Lsn{UINT64_MAX};
    if (*own) found = **own;
    if (!*own && n > number) break;
  }
  return found;
}

}  // namespace slipstream::wal::io
