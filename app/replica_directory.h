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

// A replica's directory: wal/ with its segments, the state file, a lock.
struct ReplicaDirectory {
  std::filesystem::path path;
  wal::io::DirectoryLock lock;
  node::State state;         // log_begin raised to what is still there.
  wal::Recovered recovered;  // What the log holds.

  std::filesystem::path wal() const { return path / "wal"; }
  std::filesystem::path state_file() const { return path / "state"; }
  wal::SegmentLayout layout() const { return wal::SegmentLayout(state.segment_size); }

  // Locks, reads and recovers. Errors (kDirectory): not initialised, in use, damaged, a primary's, or holding less than was final.
  static std::expected<ReplicaDirectory, Error> open(const std::filesystem::path& path);
};

// The 4 KiB block that holds `end`, from disk, zeros from `end` on, into its place in the ring.
void load_last_block(const ReplicaDirectory& directory, std::span<std::byte> ring);

// Evidence with the digests that a promotion compares.
void add_blocks(node::Evidence& evidence, const std::filesystem::path& wal, ByteCount segment_size);

// What a stopped replica holds; with a fence first, made durable, when `candidate` is not empty. `name` as in the configuration; empty: as its member list names it.
struct OfflineFence {
  std::string candidate;
  std::optional<std::uint32_t> term;
  bool supersede = false;
};
std::expected<node::Evidence, Error> examine_stopped(const std::filesystem::path& path, const std::string& name, NodeId id, const OfflineFence& fence);

}  // namespace slipstream::app
