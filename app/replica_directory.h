#pragma once

#include <expected>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "node/replica_node.h"
#include "node/state_file.h"
#include "wal/io/files.h"
#include "wal/recovery.h"

namespace slipstream::app {

// A replica's directory: wal/ with its segments, ledger/ with their ledgers, the state file, a lock.
struct ReplicaDirectory {
  std::filesystem::path path;
  std::optional<wal::io::DirectoryLock> lock;  // None when it was only looked at.
  node::State state;
  std::string history;       // Of its timeline; empty on timeline 1.
  wal::Recovered recovered;  // What the log holds.

  std::filesystem::path wal() const { return path / "wal"; }
  std::filesystem::path ledgers() const { return path / "ledger"; }
  std::filesystem::path state_file() const { return path / "state"; }
  wal::SegmentLayout layout() const { return wal::SegmentLayout(state.segment_size); }

  // Its state file alone, checked. Errors (kDirectory): not initialised, damaged, a primary's.
  static std::expected<node::State, Error> state_of(const std::filesystem::path& path);

  // How much of the log below what is known to be durable is checked record by record, besides all that lies behind.
  enum class Check : std::uint8_t {
    kRecent,  // The last GiB: quick enough for a daemon's start.
    kWhole,
  };
  // Locks, reads and recovers. Errors (kDirectory): not initialised, not usable, in use, a primary's; or damaged: it
  // names the segment and the position where the log ends although the state file knows that it was durable beyond. A
  // torn tail behind what is known to be durable is no error. Where a cut was asked for (State::replacement) the log is
  // cut first.
  static std::expected<ReplicaDirectory, Error> open(const std::filesystem::path& path, Check check = Check::kRecent);
  // The same of another replica's directory, or of a copy, that nobody writes to meanwhile: nothing in it is changed.
  static std::expected<ReplicaDirectory, Error> look_at(const std::filesystem::path& path, Check check);
};

// Reads its log by its own timeline's history.
wal::io::FileSegmentSource source_of(const ReplicaDirectory& directory);

// The 4 KiB block that holds `end`, from disk, zeros from `end` on, into its place in the ring. Error (kDirectory): it
// cannot be read any more; with anything else in its place the next write would damage what is durable.
std::expected<void, Error> load_last_block(const ReplicaDirectory& directory, std::span<std::byte> ring);

// Evidence with the digests that a promotion compares, and those of `also` that lie within the log.
void add_blocks(node::Evidence& evidence, const std::filesystem::path& wal, ByteCount segment_size,
                std::span<const LsnRange> also = {});

// What a stopped replica holds; with a fence first, made durable, when `candidate` is not empty. `name` as in the
// configuration; empty: as its member list names it.
struct OfflineFence {
  std::string candidate;
  std::optional<std::uint32_t> term;
  bool supersede = false;
};
std::expected<node::Evidence, Error> examine_stopped(const std::filesystem::path& path, const std::string& name,
                                                     NodeId id, const OfflineFence& fence);

}  // namespace slipstream::app
