#include "wal/io/segment_writer.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "wal/io/files.h"

namespace slipstream::wal::io {
namespace {

bool is_no_space(int problem) { return problem == ENOSPC || problem == EDQUOT; }

IoStatus status_of(int problem) { return is_no_space(problem) ? IoStatus::kNoSpace : IoStatus::kFailed; }

// Whether the file system takes what the writes will ask for. Where this cannot be found out, making segments tells
// why.
bool takes_direct(const std::filesystem::path& directory) {
  alignas(SegmentWriter::kBlock) static const std::byte zeros[SegmentWriter::kBlock] = {};
  const auto probe = directory / (std::string(kTemporaryPrefix) + "probe");
  const int fd = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
  bool taken = fd >= 0 || errno != EINVAL;
  if (fd >= 0) {
    const iovec vector{const_cast<std::byte*>(zeros), sizeof zeros};
    taken = ::pwritev2(fd, &vector, 1, 0, RWF_DSYNC) == static_cast<ssize_t>(sizeof zeros) || is_no_space(errno);
    ::close(fd);
  }
  ::unlink(probe.c_str());
  return taken;
}

std::shared_ptr<const TimelineHistory> history_in(const std::filesystem::path& directory, TimelineId timeline) {
  if (const auto content = read_file(directory / history_file_name(timeline))) {
    auto history = TimelineHistory::parse(timeline, {reinterpret_cast<const char*>(content->data()), content->size()});
    if (history) return std::make_shared<const TimelineHistory>(std::move(*history));
  }
  return std::make_shared<const TimelineHistory>(timeline);
}

}  // namespace

SegmentWriter::SegmentWriter(IoRing& ring, std::filesystem::path directory, SegmentLayout layout, TimelineId timeline,
                             std::function<void()> wake, bool allow_direct)
    : ring_(ring),
      directory_(std::move(directory)),
      layout_(layout),
      direct_(allow_direct && takes_direct(directory_)),
      history_(history_in(directory_, timeline)),
      maker_(directory_, layout, direct_, std::move(wake)) {}

SegmentWriter::~SegmentWriter() {
  if (std::ranges::any_of(writes_, &Write::started)) ring_.finish();
  for (const Segment& segment : segments_) {
    if (segment.fd < 0) continue;
    ring_.remove_file(segment.fd);
    ::close(segment.fd);
  }
}

void SegmentWriter::set_timeline(TimelineId timeline) { history_ = history_in(directory_, timeline); }
void SegmentWriter::set_history(TimelineHistory history) {
  history_ = std::make_shared<const TimelineHistory>(std::move(history));
}

SegmentWriter::Segment* SegmentWriter::find(std::uint64_t number, TimelineId owner) {
  const auto it =
      std::ranges::find_if(segments_, [&](const Segment& s) { return s.number == number && s.owner == owner; });
  return it == segments_.end() ? nullptr : &*it;
}

// The first segment of a timeline copies its ancestor's bytes: not while some of them are still on their way.
bool SegmentWriter::older_writes_under_way(std::uint64_t number, TimelineId owner) const {
  return std::ranges::any_of(
      writes_, [&](const Write& w) { return w.busy && layout_.number_of(w.at) == number && w.owner < owner; });
}

void SegmentWriter::prepare(std::uint64_t number, const std::shared_ptr<const TimelineHistory>& history) {
  const TimelineId owner = history->file_owner(layout_.begin_of(number), layout_.segment_size());
  if (find(number, owner) || older_writes_under_way(number, owner) || !maker_.request(number, history)) return;
  segments_.push_back({number, owner, -1, ++uses_});
}

void SegmentWriter::on_made(const SegmentMaker::Made& made) {
  Segment* segment = find(made.number, made.owner);
  CHECK(segment != nullptr && segment->fd < 0);
  if (made.fd >= 0) {
    segment->fd = made.fd;
    ring_.add_file(made.fd);
    close_unused(kSegmentsMax);
    return;
  }
  segments_.erase(segments_.begin() + (segment - segments_.data()));
  if (is_no_space(made.problem)) close_unused(0);  // Removed segments that are still open here keep their space.
  std::erase_if(waiting_, [&](std::size_t index) {
    if (layout_.number_of(writes_[index].at) != made.number || writes_[index].owner != made.owner) return false;
    failed_.push_back(*ended(index, status_of(made.problem)));
    return true;
  });
}

// Those not used for longest, until `keep` are left or all are in use.
void SegmentWriter::close_unused(std::size_t keep) {
  const auto in_use = [&](const Segment& s) {
    return s.fd < 0 ||
           std::ranges::any_of(
               writes_,
               [&](const Write& w) { return w.busy && layout_.number_of(w.at) == s.number && w.owner == s.owner; });
  };
  while (segments_.size() > keep) {
    auto oldest = segments_.end();
    for (auto it = segments_.begin(); it != segments_.end(); ++it)
      if (!in_use(*it) && (oldest == segments_.end() || it->used < oldest->used)) oldest = it;
    if (oldest == segments_.end()) return;
    ring_.remove_file(oldest->fd);
    ::close(oldest->fd);
    segments_.erase(oldest);
  }
}

bool SegmentWriter::submit(std::uint32_t id, Lsn at, std::span<const std::byte> bytes) {
  CHECK(at.value % kBlock == 0 && !bytes.empty() && bytes.size() % kBlock == 0 &&
        at + ByteCount{bytes.size()} <= layout_.segment_end(at));
  CHECK(!direct_ || reinterpret_cast<std::uintptr_t>(bytes.data()) % kBlock == 0);
  const auto slot = std::ranges::find(writes_, false, &Write::busy);
  if (slot == writes_.end()) return false;
  *slot = {true,    id, at, bytes, 0, false, history_->file_owner(layout_.segment_begin(at), layout_.segment_size()),
           history_};
  const auto index = static_cast<std::size_t>(slot - writes_.begin());
  if (!start(index)) waiting_.push_back(index);
  return true;
}

bool SegmentWriter::start(std::size_t index) {
  Write& write = writes_[index];
  const std::uint64_t number = layout_.number_of(write.at);
  if (!find(number, write.owner)) prepare(number, write.history);
  if (number + 1 > ahead_) {
    ahead_ = number + 1;
    prepare(number + 1, write.history);
  }
  Segment* segment = find(number, write.owner);
  if (!segment || segment->fd < 0) return false;
  segment->used = ++uses_;
  const auto rest = write.bytes.subspan(write.have);
  const std::uint64_t offset = layout_.offset_of(write.at) + write.have, user = kUserMark | index;
  write.started = direct_ ? ring_.write(segment->fd, rest, offset, true, user)
                          : ring_.write_then_sync(segment->fd, rest, offset, user);
  return write.started;
}

void SegmentWriter::go_on() {
  while (const auto made = maker_.next_made()) on_made(*made);
  for (std::size_t left = waiting_.size(); left > 0; --left) {
    const std::size_t index = waiting_.front();
    waiting_.pop_front();
    if (!start(index)) waiting_.push_back(index);
  }
}

std::optional<IoDone> SegmentWriter::ended(std::size_t index, IoStatus status) {
  const IoDone done{writes_[index].id, status};
  writes_[index] = {};
  return done;
}

std::optional<IoDone> SegmentWriter::on_completion(const IoRing::Completion& completion) {
  const auto index = static_cast<std::size_t>(completion.user & ~kUserMark);
  CHECK(index < writes_.size() && writes_[index].started);
  Write& write = writes_[index];
  const int result = completion.result;
  if (result == -EINTR || result == -EAGAIN) {
    write.started = false;
    waiting_.push_back(index);
    return std::nullopt;
  }
  if (result <= 0) return ended(index, status_of(-result));
  const std::size_t before = write.have;
  write.have += static_cast<std::size_t>(result);
  if (write.have == write.bytes.size()) return ended(index, IoStatus::kOk);
  write.have = write.have / kBlock * kBlock;  // O_DIRECT goes on at a block.
  if (write.have == before) return ended(index, IoStatus::kFailed);
  write.started = false;
  waiting_.push_back(index);
  return std::nullopt;
}

std::optional<IoDone> SegmentWriter::next_failed() {
  if (failed_.empty()) return std::nullopt;
  const IoDone done = failed_.front();
  failed_.pop_front();
  return done;
}

}  // namespace slipstream::wal::io
