#include "app/ledger_keeper.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <set>
#include <string_view>
#include <utility>

#include "wal/io/ledger_files.h"

namespace slipstream::app {
namespace {

// Of the calling thread alone. Best effort: where it is forbidden the pauses remain.
void take_lowest_priority() {
  constexpr int kWhoProcess = 1, kIdleClass = 3 << 13;  // linux/ioprio.h
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19);
  syscall(SYS_ioprio_set, kWhoProcess, 0, kIdleClass);
  pthread_setname_np(pthread_self(), "ledger");
}

std::set<std::string> names_of(const std::vector<wal::io::SegmentFile>& files) {
  std::set<std::string> names;
  for (const auto& file : files) names.insert(file.path.filename().string());
  return names;
}

}  // namespace

LedgerKeeper::LedgerKeeper(LedgerKeeperOptions options) : options_(std::move(options)), thread_([this] { run(); }) {}

void LedgerKeeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool LedgerKeeper::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [&] { return stop_; });
}

void LedgerKeeper::tell(const std::string& problem) {
  if (!problem.empty() && problem != told_) spdlog::warn("ledgers are not kept up to date: {}", problem);
  told_ = problem;
}

void LedgerKeeper::run() {
  take_lowest_priority();
  bool made = false;
  while (wait(options_.period)) {
    if (!made) {
      const auto directory = wal::io::make_ledger_directory(options_.ledger_directory);
      made = directory.has_value();
      if (!made) tell(directory.error().message());
    }
    if (!made) continue;
    if (const auto log = options_.complete()) made = keep_up(*log);
  }
}

// False: something failed and was told.
bool LedgerKeeper::keep_up(const CompleteLog& log) {
  if (!remove_stale(log.range.end) || !make_missing(log)) return false;
  tell("");
  return true;
}

bool LedgerKeeper::make_missing(const CompleteLog& log) {
  const wal::SegmentLayout& layout = options_.layout;
  const wal::TimelineHistory& history = history_of(log.timeline);
  const auto kept = names_of(wal::io::list_segments(options_.ledger_directory, layout));
  for (const auto& segment : wal::io::list_segments(options_.wal_directory, layout)) {
    const Lsn begin = layout.begin_of(segment.number);
    if (begin < log.range.begin || layout.begin_of(segment.number + 1) > log.range.end) continue;
    // Where a timeline forked off inside a segment its ancestor's file may end before the fork.
    if (segment.timeline != history.file_owner(begin, layout.segment_size())) continue;
    if (kept.contains(segment.path.filename().string())) continue;
    if (!wait(std::chrono::milliseconds(0))) return true;
    const auto ledger = wal::io::digest_segment(segment, layout, wal::io::LedgerReading::kLeaveCache,
                                                [&] { return wait(options_.pause); });
    if (!ledger) return tell(ledger.error().message()), false;
    if (!*ledger) continue;
    if (const auto done = wal::io::keep_ledger(options_.ledger_directory, layout, **ledger); !done)
      return tell(done.error().message()), false;
  }
  return true;
}

bool LedgerKeeper::remove_stale(Lsn complete_end) {
  const auto segments = wal::io::list_segments(options_.wal_directory, options_.layout);
  if (segments.empty()) return true;  // A directory that cannot be read just now looks empty.
  if (const auto done = wal::io::remove_ledgers_beyond(options_.ledger_directory, options_.layout, complete_end); !done)
    return tell(done.error().message()), false;
  const auto there = names_of(segments);
  for (const auto& ledger : wal::io::list_segments(options_.ledger_directory, options_.layout))
    if (!there.contains(ledger.path.filename().string())) ::unlink(ledger.path.c_str());
  return true;
}

// Without its history file a timeline is taken to have no ancestors: their segments get no ledgers meanwhile.
const wal::TimelineHistory& LedgerKeeper::history_of(TimelineId timeline) {
  if (history_.timeline() == timeline && (timeline.value <= 1 || !history_.ancestors().empty())) return history_;
  history_ = wal::TimelineHistory(timeline);
  if (timeline.value <= 1) return history_;
  const auto content = wal::io::read_file(options_.wal_directory / wal::history_file_name(timeline));
  if (!content) return history_;
  if (auto parsed =
          wal::TimelineHistory::parse(timeline, {reinterpret_cast<const char*>(content->data()), content->size()}))
    history_ = std::move(*parsed);
  return history_;
}

}  // namespace slipstream::app
