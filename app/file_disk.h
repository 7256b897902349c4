#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "app/archive.h"
#include "base/spsc_ring.h"
#include "node/io.h"
#include "wal/io/io_ring.h"
#include "wal/io/segment_reader.h"
#include "wal/io/segment_writer.h"

namespace slipstream::app {

struct FileDiskOptions {
  std::filesystem::path wal_directory;
  std::filesystem::path state_path;
  ByteCount segment_size;
  TimelineId timeline;
  std::string history;          // Of the timeline; empty on timeline 1.
  bool writes = false;          // A replica's own log.
  SystemId system{};            // For what comes from the archive.
  std::string restore_command;  // A primary's: brings back what replicas need and pg_wal no longer has. Empty: nothing.
  std::function<void()> wake;
};

// The node's disk over real files: segments through one io_uring, the state file and timeline histories through a
// thread that may wait. A full disk is waited for; any other failed durable write ends the process: what memory says is
// durable would no longer be true; restart, recover, fetch again.
class FileDisk : public node::Disk {
 public:
  explicit FileDisk(FileDiskOptions options);
  ~FileDisk() override;

  void register_memory(std::span<const std::span<std::byte>> regions) { ring_.register_memory(regions); }
  const std::string& note() const { return ring_.note(); }
  std::string problem() const;  // Why something cannot be written just now; empty if all can. From any thread.
  // Where the log must end for now: a write beyond ends in kNoSpace, as on a full disk. A segment's begin. From any
  // thread.
  void set_write_limit(Lsn limit);
  int wake_fd() const { return ring_.event_fd(); }  // Readable when a read or write has ended; -1: nothing tells.
  bool tell(bool on) { return ring_.tell(on); }     // Whether it does (IoRing).

  bool submit_read(const node::ReadOp& op) override;
  bool submit_write(const node::WriteOp& op) override;
  bool submit_persist(node::PersistOp&& op) override;
  bool submit_history(node::KeepHistoryOp&& op) override;
  void start() override { ring_.submit(); }
  std::size_t complete(std::span<node::DiskDone> done) override;

 private:
  struct Slow {
    std::uint32_t id = 0;
    std::filesystem::path path;
    std::vector<std::byte> content;
    std::optional<TimelineId> timeline;  // A history: reader and writer go over to it when it is kept.
    std::string history;
  };
  void slow_thread();
  bool keep(const Slow& slow);
  void queue(Slow&& slow);
  bool comes_from_archive(const wal::io::IoDone& read);
  std::optional<node::DiskDone> next_from_archive();

  FileDiskOptions options_;
  wal::SegmentLayout layout_;
  wal::io::IoRing ring_;
  wal::io::SegmentReader reader_;
  std::optional<wal::io::SegmentWriter> writer_;
  std::optional<Archive> archive_;
  std::deque<std::uint32_t> beyond_limit_;  // Writes that ended so.
  std::deque<node::ReadOp> bulk_reads_;     // Under way, while there is an archive.
  std::deque<node::ReadOp> awaited_;        // From the archive.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Slow> queue_;  // Guarded by mutex_.
  std::deque<Slow> done_;   // Guarded by mutex_.
  std::atomic<bool> any_done_{false};
  std::atomic<bool> waits_for_room_{false};
  std::atomic<std::uint64_t> write_limit_{UINT64_MAX};
  std::atomic<bool> at_limit_{false};
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace slipstream::app
