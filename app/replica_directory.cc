#include "app/replica_directory.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/memory.h"
#include "dataplane/idle.h"

namespace slipstream::app {
namespace {

Error directory_error(const std::filesystem::path& path, std::string what, std::string remedy) { return {ExitCode::kDirectory, std::move(what), path.string(), std::move(remedy)}; }

}  // namespace

std::expected<ReplicaDirectory, Error> ReplicaDirectory::open(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path / "state"))
    return std::unexpected(directory_error(path, "not a replica's directory: it has no state file", "make it with: slipstream init-standby -c FILE --primary CONNINFO -D PGDATA"));
  auto lock = wal::io::DirectoryLock::acquire(path);
  if (!lock) return std::unexpected(lock.error());
  const auto content = wal::io::read_file(path / "state");
  if (!content) return std::unexpected(content.error());
  auto state = node::decode_state(*content, (path / "state").string());
  if (!state) return std::unexpected(state.error());
  if (state->role != node::State::Role::kReplica) return std::unexpected(directory_error(path, "this is a primary's state directory, not a replica's", "correct replica.directory"));
  const wal::SegmentLayout layout(state->segment_size);
  const auto segments = wal::io::list_segments(path / "wal", layout);
  for (const auto& segment : segments)
    if (std::filesystem::file_size(segment.path) != layout.segment_size().value)
      return std::unexpected(directory_error(segment.path, fmt::format("the segment does not have {} bytes", layout.segment_size().value), "restore it, or make the replica anew with init-standby"));
  if (!segments.empty()) state->log_begin = std::max(state->log_begin, layout.begin_of(segments.front().number));

  wal::io::FileSegmentSource source(path / "wal", layout);
  const bool at_record = state->scan_begin_is_record && state->scan_begin >= state->log_begin;
  const auto recovered = wal::recover(source, layout, at_record ? state->scan_begin : state->log_begin, at_record ? wal::Scanner::Start::kRecord : wal::Scanner::Start::kPage, {state->system, {}});
  // What was read may still be only in the page cache of a killed daemon: it must be on storage before it is acknowledged again.
  if (auto synced = wal::io::sync_segments_from(path / "wal", layout, at_record ? state->scan_begin : state->log_begin); !synced) return std::unexpected(synced.error());
  if (recovered.durable_end < state->final_end)
    return std::unexpected(directory_error(path, fmt::format("the log is whole only to {} ({}), but {} was final: its storage lost data", to_string(recovered.durable_end), wal::to_string(recovered.stopped_by), to_string(state->final_end)),
                                           "do not promote from it; make the replica anew with init-standby"));
  return ReplicaDirectory{path, std::move(*lock), std::move(*state), recovered};
}

void load_last_block(const ReplicaDirectory& directory, std::span<std::byte> ring) {
  const Lsn end = directory.recovered.durable_end, begin = align_down(end, 4096);
  const auto block = ring.subspan(begin.value & (ring.size() - 1), 4096);
  std::ranges::fill(block, std::byte{0});
  if (begin == end) return;
  wal::io::FileSegmentSource source(directory.wal(), directory.layout());
  (void)source.read(begin, block.first((end - begin).value));
}

void add_blocks(node::Evidence& evidence, const std::filesystem::path& wal, ByteCount segment_size) {
  constexpr std::uint64_t kBelowFinal = 256 * wal::kBlockBytes;
  const wal::SegmentLayout layout(segment_size);
  wal::io::FileSegmentSource source(wal, layout);
  const std::uint64_t block = align_down(evidence.final_end, wal::kBlockBytes).value;
  const Lsn begin = std::max(evidence.log_begin, Lsn{block > kBelowFinal ? block - kBelowFinal : 0});
  if (begin < evidence.durable_end) evidence.blocks = wal::io::digest_blocks(source, layout, {begin, evidence.durable_end});
}

std::expected<node::Evidence, Error> examine_stopped(const std::filesystem::path& path, const std::string& name, NodeId id, const OfflineFence& fence) {
  auto directory = ReplicaDirectory::open(path);
  if (!directory) return std::unexpected(directory.error());
  node::ReplicaOptions options;
  options.name = name, options.id = id;
  for (const node::MemberRecord& member : directory->state.policy.members)
    if (member.log_id == directory->state.log_id && name.empty()) options.name = member.name, options.id = member.id;
  if (options.name.empty()) options.name = path.filename().string();
  options.log_only = directory->state.log_only;
  Memory ring(4 << 20), compare(64 << 10);
  load_last_block(*directory, ring.span());
  const Instant now = dataplane::monotonic_now();
  node::ReplicaNode node(options, directory->state, directory->recovered, ring.span(), compare.span(), now);
  if (!fence.candidate.empty()) {
    const std::uint32_t promised = directory->state.promise.epoch.term;
    const bool again = directory->state.promise.candidate == fence.candidate;
    if (auto done = node.fence(fence.term.value_or(again ? promised : promised + 1), fence.candidate, fence.supersede, now); !done) return std::unexpected(done.error());
    while (auto persist = node.next_persist()) {
      if (auto kept = wal::io::durable_replace(directory->state_file(), persist->content); !kept) return std::unexpected(kept.error());
      node.on_disk({persist->id, node::DiskStatus::kOk}, now);
    }
  }
  node::Evidence evidence = node.evidence();
  add_blocks(evidence, directory->wal(), directory->state.segment_size);
  return evidence;
}

}  // namespace slipstream::app
