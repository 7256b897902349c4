#include "app/file_disk.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>

#include "wal/io/files.h"

namespace slipstream::app {
namespace {

constexpr auto kNoSpaceRetry = std::chrono::milliseconds(500);

wal::TimelineHistory history_of(TimelineId timeline, const std::string& content) {
  auto parsed = wal::TimelineHistory::parse(timeline, content);
  return parsed ? std::move(*parsed) : wal::TimelineHistory(timeline);
}

[[noreturn]] void storage_failed(const std::string& what) {
  spdlog::critical(
      "{}; ending, because what was durable is no longer known. After the storage is well again, start the daemon: it "
      "recovers and fetches what is missing",
      what);
  std::_Exit(static_cast<int>(ExitCode::kStorage));
}

node::DiskStatus status_of(wal::io::IoStatus status) {
  switch (status) {
    case wal::io::IoStatus::kOk:
      return node::DiskStatus::kOk;
    case wal::io::IoStatus::kMissing:
      return node::DiskStatus::kMissing;
    case wal::io::IoStatus::kNoSpace:
      return node::DiskStatus::kNoSpace;
    case wal::io::IoStatus::kFailed:
      return node::DiskStatus::kFailed;
  }
  return node::DiskStatus::kFailed;
}

}  // namespace

FileDisk::FileDisk(FileDiskOptions options)
    : options_(std::move(options)),
      layout_(options_.segment_size),
      reader_(ring_, options_.wal_directory, layout_, history_of(options_.timeline, options_.history)) {
  if (options_.writes) writer_.emplace(ring_, options_.wal_directory, layout_, options_.timeline, options_.wake);
  if (!options_.restore_command.empty()) {
    const std::filesystem::path restored = options_.state_path.parent_path() / "restored";
    archive_.emplace(ArchiveOptions{options_.restore_command, restored, layout_, options_.system, options_.wake});
    reader_.set_archive(restored);
  }
  thread_ = std::thread([this] { slow_thread(); });
}

FileDisk::~FileDisk() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool FileDisk::submit_read(const node::ReadOp& op) {
  if (!reader_.submit(op.id, op.range, op.into, op.bulk)) return false;
  if (archive_ && op.bulk) bulk_reads_.push_back(op);
  return true;
}

// A read of what pg_wal no longer has waits for the archive's answer.
bool FileDisk::comes_from_archive(const wal::io::IoDone& read) {
  const auto op = std::ranges::find(bulk_reads_, read.id, &node::ReadOp::id);
  if (op == bulk_reads_.end()) return false;
  const bool waits = read.status == wal::io::IoStatus::kMissing &&
                     archive_->ask(reader_.file_owner(op->range.begin), layout_.number_of(op->range.begin)) !=
                         Archive::Answer::kNotThere;
  if (waits) awaited_.push_back(*op);
  bulk_reads_.erase(op);
  return waits;
}

// Those whose segment came are read again, the others have ended.
std::optional<node::DiskDone> FileDisk::next_from_archive() {
  for (std::size_t left = awaited_.size(); left > 0; --left) {
    const node::ReadOp op = awaited_.front();
    awaited_.pop_front();
    const auto answer = archive_->ask(reader_.file_owner(op.range.begin), layout_.number_of(op.range.begin));
    if (answer == Archive::Answer::kNotThere) return node::DiskDone{op.id, node::DiskStatus::kMissing};
    if (answer == Archive::Answer::kFetching || !submit_read(op)) awaited_.push_back(op);
  }
  return std::nullopt;
}

bool FileDisk::submit_write(const node::WriteOp& op) {
  CHECK(writer_.has_value());
  at_limit_ = op.at + ByteCount{op.bytes.size()} > Lsn{write_limit_};
  if (!at_limit_) return writer_->submit(op.id, op.at, op.bytes);
  beyond_limit_.push_back(op.id);
  return true;
}

void FileDisk::set_write_limit(Lsn limit) {
  if (write_limit_.exchange(limit.value) != limit.value) at_limit_ = false;  // Whoever was refused tries again.
}

void FileDisk::queue(Slow&& slow) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(slow));
  }
  changed_.notify_all();
}

bool FileDisk::submit_persist(node::PersistOp&& op) {
  queue({op.id, options_.state_path, std::move(op.content), std::nullopt, ""});
  return true;
}

bool FileDisk::submit_history(node::KeepHistoryOp&& op) {
  const auto bytes = std::as_bytes(std::span(op.content.data(), op.content.size()));
  queue({op.id,
         options_.wal_directory / wal::history_file_name(op.timeline),
         {bytes.begin(), bytes.end()},
         op.timeline,
         op.content});
  return true;
}

// A full disk is waited for: nothing that depends on this content is told to anybody before it is kept. False: stopped
// before there was room, which leaves what a crash would leave.
bool FileDisk::keep(const Slow& slow) {
  while (true) {
    const auto kept = wal::io::durable_replace_if_room(slow.path, slow.content);
    if (!kept) storage_failed(kept.error().message());
    waits_for_room_ = !*kept;
    if (*kept) return true;
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kNoSpaceRetry, [&] { return stop_; })) {
      spdlog::warn("the disk is full: {} was not written", slow.path.string());
      return false;
    }
  }
}

std::string FileDisk::problem() const {
  if (waits_for_room_)
    return fmt::format(
        "the disk is full: {} cannot be written; no change of session, policy or term is completed until there is room",
        options_.state_path.string());
  if (at_limit_)
    return fmt::format(
        "the log is at replica.keep_max and ends before {}: start the standby, so that older WAL can go, or raise the "
        "bound; nothing more is acknowledged until then",
        to_string(Lsn{write_limit_}));
  return "";
}

void FileDisk::slow_thread() {
  pthread_setname_np(pthread_self(), "slow");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;  // What was asked for is done also when stopping.
    Slow slow = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (!keep(slow)) return;
    lock.lock();
    done_.push_back(std::move(slow));
    any_done_.store(true, std::memory_order_release);
    lock.unlock();
    options_.wake();
    lock.lock();
  }
}

std::size_t FileDisk::complete(std::span<node::DiskDone> done) {
  std::size_t count = 0;
  if (any_done_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(mutex_);
    while (!done_.empty() && count < done.size()) {
      const Slow slow = std::move(done_.front());
      done_.pop_front();
      if (slow.timeline) {
        reader_.set_history(history_of(*slow.timeline, slow.history));
        if (writer_) writer_->set_timeline(*slow.timeline);
      }
      done[count++] = {slow.id, node::DiskStatus::kOk};
    }
    any_done_.store(!done_.empty(), std::memory_order_release);
  }
  if (writer_) writer_->go_on();
  const auto add = [&](const wal::io::IoDone& each) {
    if (each.status == wal::io::IoStatus::kFailed && writer_) storage_failed("reading or writing the log failed");
    if (!archive_ || !comes_from_archive(each)) done[count++] = {each.id, status_of(each.status)};
  };
  while (!awaited_.empty() && count < done.size()) {
    const auto ended = next_from_archive();
    if (!ended) break;
    done[count++] = *ended;
  }
  while (count < done.size()) {
    const auto failed = reader_.next_failed();
    if (!failed) break;
    add(*failed);
  }
  for (; !beyond_limit_.empty() && count < done.size(); beyond_limit_.pop_front())
    done[count++] = {beyond_limit_.front(), node::DiskStatus::kNoSpace};
  while (writer_ && count < done.size()) {
    const auto failed = writer_->next_failed();
    if (!failed) break;
    add(*failed);
  }
  std::array<wal::io::IoRing::Completion, 64> completions;
  const std::size_t ended = ring_.reap(std::span(completions).first(std::min(completions.size(), done.size() - count)));
  for (std::size_t i = 0; i < ended; ++i) {
    const bool read = (completions[i].user & wal::io::SegmentReader::kUserMark) != 0;
    if (const auto each = read ? reader_.on_completion(completions[i]) : writer_->on_completion(completions[i]))
      add(*each);
  }
  return count;
}

}  // namespace slipstream::app
