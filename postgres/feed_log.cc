#include "postgres/feed_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>

namespace slipstream::postgres {

FeedLog::FeedLog(std::filesystem::path directory, wal::SegmentLayout layout, Lsn log_begin, const RecentBytes* recent)
    : directory_(std::move(directory)), layout_(layout), log_begin_(log_begin), recent_(recent) {}

FeedLog::~FeedLog() {
  for (File& file : files_) close_file(file);
}

void FeedLog::close_file(File& file) {
  if (file.fd >= 0) ::close(file.fd);
  file = {};
}

void FeedLog::set_log_begin(Lsn begin) {
  log_begin_ = begin;
  for (File& file : files_)
    if (file.fd >= 0 && layout_.begin_of(file.number + 1) <= begin) close_file(file);
}

std::optional<std::string> FeedLog::history_file(TimelineId timeline) {
  std::ifstream in(directory_ / wal::history_file_name(timeline), std::ios::binary);
  if (!in) return std::nullopt;
  std::string content{std::istreambuf_iterator<char>(in), {}};
  return in.bad() ? std::nullopt : std::optional(std::move(content));
}

const wal::TimelineHistory* FeedLog::history(TimelineId timeline) {
  if (history_ && history_->timeline() == timeline) return &*history_;
  if (timeline.value <= 1) return &history_.emplace(timeline);
  const auto content = history_file(timeline);
  if (!content) return nullptr;
  auto parsed = wal::TimelineHistory::parse(timeline, *content);
  return parsed ? &history_.emplace(std::move(*parsed)) : nullptr;
}

int FeedLog::open_segment(TimelineId timeline, std::uint64_t number) {
  for (File& file : files_)
    if (file.fd >= 0 && file.number == number && file.timeline == timeline) return file.used = ++uses_, file.fd;
  const int fd = ::open((directory_ / layout_.file_name(timeline, number)).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  // Read-ahead would bring blocks into the page cache that the replica is about to write past it.
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  File& oldest = *std::ranges::min_element(files_, {}, &File::used);
  close_file(oldest);
  oldest = {timeline, number, fd, ++uses_};
  return fd;
}

FeedRead FeedLog::read(const wal::TimelineHistory& history, Lsn at, std::span<std::byte> out) {
  if (recent_ && recent_->read(at, out)) return FeedRead::kOk;
  const std::uint64_t number = layout_.number_of(at);
  // A fork's first segment is the newer timeline's file as soon as there is one, also below the fork: what came late of
  // the ancestor's bytes was written there alone.
  int fd = -1;
  for (const TimelineId timeline : history.file_candidates(layout_.begin_of(number), layout_.segment_size()))
    if (fd = open_segment(timeline, number); fd >= 0 || errno != ENOENT) break;
  if (fd < 0) return errno == ENOENT ? FeedRead::kMissing : FeedRead::kFailed;
  std::size_t have = 0;
  while (have < out.size()) {
    const ssize_t got =
        ::pread(fd, out.data() + have, out.size() - have, static_cast<off_t>(layout_.offset_of(at) + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return FeedRead::kFailed;
    have += static_cast<std::size_t>(got);
  }
  return FeedRead::kOk;
}

}  // namespace slipstream::postgres
