#include "app/replica_directory.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <system_error>

#include "app/log_order.h"
#include "app/memory.h"
#include "dataplane/idle.h"
#include "node/log_cut.h"
#include "wal/io/ledger_files.h"
#include "wal/io/log_tail.h"

namespace slipstream::app {
namespace {

Error directory_error(const std::filesystem::path& path, std::string what, std::string remedy) {
  return {ExitCode::kDirectory, std::move(what), path.string(), std::move(remedy)};
}

constexpr std::uint64_t kRecentBytes = std::uint64_t{1} << 30;

std::expected<node::State, Error> read_state(const std::filesystem::path& path) {
  const auto content = wal::io::read_durable(path / "state");
  if (!content) return std::unexpected(content.error());
  auto state = node::decode_state(*content, (path / "state").string());
  if (!state) return std::unexpected(state.error());
  if (state->role != node::State::Role::kReplica)
    return std::unexpected(
        directory_error(path, "this is a primary's state directory, not a replica's", "correct replica.directory"));
  if (state->segment_size.value == 0)
    return std::unexpected(directory_error(path / "state", "the state file names no segment size",
                                           "make the replica anew with init-standby"));
  return state;
}

std::expected<std::string, Error> read_history(const std::filesystem::path& wal, TimelineId timeline) {
  if (timeline.value <= 1) return "";
  const auto content = wal::io::read_file(wal / wal::history_file_name(timeline));
  if (!content)
    return std::unexpected(
        directory_error(wal / wal::history_file_name(timeline), content.error().what,
                        "copy this file from the primary's pg_wal, or make the replica anew with init-standby"));
  return std::string(reinterpret_cast<const char*>(content->data()), content->size());
}

std::optional<wal::TimelineHistory> history_in(const std::filesystem::path& wal, TimelineId timeline) {
  const auto content = read_history(wal, timeline);
  if (!content) return std::nullopt;
  auto parsed = wal::TimelineHistory::parse(timeline, *content);
  return parsed ? std::optional(std::move(*parsed)) : std::nullopt;
}

Error lost(const std::filesystem::path& wal, const node::State& state, const wal::TimelineHistory& history,
           const wal::Recovered& found, Lsn known) {
  const wal::SegmentLayout layout(state.segment_size);
  const std::uint64_t number = layout.number_of(found.stopped_at);
  std::filesystem::path segment;
  bool there = false;
  for (const TimelineId timeline : history.file_candidates(layout.begin_of(number), state.segment_size)) {
    std::error_code ignored;
    if (there) break;
    segment = wal / layout.file_name(timeline, number);
    there = std::filesystem::exists(segment, ignored);
  }
  if (!there) segment = wal / layout.file_name(history.file_owner(layout.begin_of(number), state.segment_size), number);
  const std::string what =
      there ? fmt::format("the segment is damaged at {} ({})", to_string(found.stopped_at),
                          found.stopped_by == wal::ScanFault::kEnd ? "zeros where there was WAL"
                                                                   : wal::to_string(found.stopped_by))
            : "the segment is missing";
  return directory_error(
      segment,
      fmt::format("{}, but the log was durable to {} and beyond: its storage lost data", what, to_string(known)),
      "do not promote from it; copy the segment of this name from the primary's pg_wal while it is there, or make the "
      "replica anew with init-standby");
}

// The state file knows better: a record that began at scan_begin was whole on storage, and so was all that was final.
std::optional<Error> damage(const std::filesystem::path& wal, const node::State& state,
                            const wal::TimelineHistory& history, const wal::Recovered& found) {
  const Lsn known = std::max(state.final_end, state.scan_begin);
  const bool last_record_lost = state.scan_begin_is_record && found.durable_end <= state.scan_begin;
  if (found.durable_end >= known && !last_record_lost) return std::nullopt;
  return lost(wal, state, history, found, known);
}

// From where on the log is scanned, when a record is known to begin at `known`.
Lsn begin_of_scan(const node::State& state, Lsn known, ReplicaDirectory::Check check) {
  if (check == ReplicaDirectory::Check::kWhole || known.value <= state.log_begin.value + kRecentBytes)
    return state.log_begin;
  return wal::SegmentLayout(state.segment_size).segment_begin(Lsn{known.value - kRecentBytes});
}

std::expected<void, Error> check_there(const std::filesystem::path& path) {
  std::error_code problem;
  if (!std::filesystem::exists(path / "state", problem)) {
    if (problem)
      return std::unexpected(directory_error(path, "cannot use the directory: " + problem.message(),
                                             "run as the user that owns it, or correct replica.directory"));
    return std::unexpected(
        directory_error(path, "not a replica's directory: it has no state file",
                        "make it with: slipstream init-standby -c FILE --primary CONNINFO -D PGDATA"));
  }
  return {};
}

// What the log holds below the begin of what is to be cut.
std::expected<wal::Recovered, Error> kept_by_cut(const std::filesystem::path& wal, const node::State& state,
                                                 const wal::TimelineHistory& history) {
  const wal::SegmentLayout layout(state.segment_size);
  const Lsn from = state.replacement->from;
  wal::io::FileSegmentSource source(wal, layout, history);
  const auto scan = [&](Lsn begin) {
    return wal::recover(source, layout, begin, wal::Scanner::Start::kPage, {state.system, {}}, from);
  };
  const Lsn begin = begin_of_scan(state, node::scan_begin_of_cut(state), ReplicaDirectory::Check::kRecent);
  wal::Recovered kept = scan(begin);
  // All of the last GiB may be in the midst of one record.
  if (kept.last_record_begin.value == 0 && begin > state.log_begin) kept = scan(state.log_begin);
  if (source.problem()) return std::unexpected(*source.problem());
  // All below was whole, and the primary found it equal to its own: nothing may be cut because it cannot be read.
  if (kept.stopped_at != from) return std::unexpected(lost(wal, state, history, kept, from));
  if (kept.durable_end < state.final_end) return std::unexpected(lost(wal, state, history, kept, state.final_end));
  return kept;
}

std::expected<void, Error> keep_state(const std::filesystem::path& path, node::State& state, node::State&& changed) {
  if (auto kept = wal::io::durable_replace(path / "state", node::encode(changed)); !kept) return kept;
  state = std::move(changed);
  return {};
}

// A cut that the primary asked for is finished, whatever was done of it before a crash: the tail is set aside, then
// cleared, then forgotten.
std::expected<void, Error> cut_log(const std::filesystem::path& path, node::State& state,
                                   const wal::TimelineHistory& history) {
  if (auto no = node::objection_to_cut(state)) {
    no->where = (path / "state").string();
    return std::unexpected(*no);
  }
  const wal::SegmentLayout layout(state.segment_size);
  const std::filesystem::path wal = path / "wal";
  const auto kept = kept_by_cut(wal, state, history);
  if (!kept) return std::unexpected(kept.error());
  const node::ReplacementIntent asked = *state.replacement;
  const Lsn at = kept->durable_end;
  if (at != asked.from)
    if (auto done = keep_state(path, state, node::state_before_cut(state, *kept)); !done) return done;
  const std::filesystem::path aside = path / "aside" / fmt::format("{:016X}-{:016X}", at.value, asked.old_end.value);
  const auto set_aside = wal::io::set_tail_aside(wal, layout, history, at, aside);
  if (!set_aside) return std::unexpected(set_aside.error());
  if (auto dropped = wal::io::remove_ledgers_beyond(path / "ledger", layout, at); !dropped)
    return std::unexpected(dropped.error());
  if (auto cleared = wal::io::clear_tail(wal, layout, history, at); !cleared) return cleared;
  if (auto done = keep_state(path, state, node::state_after_cut(state, *kept)); !done) return done;
  spdlog::warn(
      "the log was cut at {}; it ended at {}. The primary found that it differs from its own from {} on: WAL of an "
      "earlier life of PostgreSQL, which lost it before it was flushed. {}",
      to_string(at), to_string(asked.old_end), to_string(asked.from),
      *set_aside ? "What was cut is kept in " + aside.string() : "Nothing of it was left");
  return {};
}

std::expected<ReplicaDirectory, Error> recover(const std::filesystem::path& path, ReplicaDirectory::Check check,
                                               wal::io::LogUse use) {
  auto state = read_state(path);
  if (!state) return std::unexpected(state.error());
  const wal::SegmentLayout layout(state->segment_size);
  const std::filesystem::path wal = path / "wal";
  if (auto fit = wal::io::check_replica_directory(wal, layout, use); !fit) return std::unexpected(fit.error());
  auto content = read_history(wal, state->timeline);
  if (!content) return std::unexpected(content.error());
  const auto history = wal::TimelineHistory::parse(state->timeline, *content);
  if (!history)
    return std::unexpected(directory_error(wal / history.error().where, history.error().what, history.error().remedy));

  if (state->replacement && use == wal::io::LogUse::kWrite)
    if (auto cut = cut_log(path, *state, *history); !cut) return std::unexpected(cut.error());

  const Lsn begin = begin_of_scan(*state, state->scan_begin, check);
  wal::io::FileSegmentSource source(wal, layout, *history);
  const auto recovered = wal::recover(source, layout, begin, wal::Scanner::Start::kPage, {state->system, {}});
  // What cannot be read is no torn tail: it may have been acknowledged.
  if (source.problem()) return std::unexpected(*source.problem());
  if (auto damaged = damage(wal, *state, *history, recovered)) return std::unexpected(*damaged);
  return ReplicaDirectory{path, std::nullopt, std::move(*state), std::move(*content), recovered};
}

}  // namespace

std::expected<node::State, Error> ReplicaDirectory::state_of(const std::filesystem::path& path) {
  if (auto there = check_there(path); !there) return std::unexpected(there.error());
  return read_state(path);
}

std::expected<ReplicaDirectory, Error> ReplicaDirectory::open(const std::filesystem::path& path, Check check) {
  if (auto there = check_there(path); !there) return std::unexpected(there.error());
  auto lock = wal::io::DirectoryLock::acquire(path);
  if (!lock) return std::unexpected(lock.error());
  auto directory = recover(path, check, wal::io::LogUse::kWrite);
  if (!directory) return directory;
  // What was read may still be only in the page cache of a killed daemon: it must be on storage before it is
  // acknowledged again.
  if (auto synced = wal::io::sync_segments_from(directory->wal(), directory->layout(), directory->state.scan_begin);
      !synced)
    return std::unexpected(synced.error());
  directory->lock.emplace(std::move(*lock));
  return directory;
}

std::expected<ReplicaDirectory, Error> ReplicaDirectory::look_at(const std::filesystem::path& path, Check check) {
  if (auto there = check_there(path); !there) return std::unexpected(there.error());
  return recover(path, check, wal::io::LogUse::kRead);
}

wal::io::FileSegmentSource source_of(const ReplicaDirectory& directory) {
  return wal::io::FileSegmentSource(directory.wal(), directory.layout(),
                                    history_in(directory.wal(), directory.state.timeline));
}

std::expected<void, Error> load_last_block(const ReplicaDirectory& directory, std::span<std::byte> ring) {
  const Lsn end = directory.recovered.durable_end, begin = align_down(end, 4096);
  const auto block = ring.subspan(begin.value & (ring.size() - 1), 4096);
  std::ranges::fill(block, std::byte{0});
  if (begin == end) return {};
  auto source = source_of(directory);
  if (wal::read_whole(source, begin, block.first((end - begin).value))) return {};
  return std::unexpected(directory_error(
      directory.wal(),
      fmt::format("the log's last block, from {}, was there and can no longer be read", to_string(begin)),
      "look for errors of its disk in the kernel's log; if they stay, make the replica anew with init-standby"));
}

void add_blocks(node::Evidence& evidence, const std::filesystem::path& wal, ByteCount segment_size,
                std::span<const LsnRange> also) {
  constexpr std::uint64_t kBelowFinal = 256 * wal::kBlockBytes;
  const wal::SegmentLayout layout(segment_size);
  wal::io::FileSegmentSource source(wal, layout, history_in(wal, evidence.timeline));
  const std::uint64_t block = align_down(evidence.final_end, wal::kBlockBytes).value;
  const Lsn begin = std::max(evidence.log_begin, Lsn{block > kBelowFinal ? block - kBelowFinal : 0});
  if (begin < evidence.durable_end)
    evidence.blocks = wal::io::digest_blocks(source, layout, {begin, evidence.durable_end});
  for (const LsnRange& range : missing_ranges(evidence, also))
    std::ranges::copy(wal::io::digest_blocks(source, layout, range), std::back_inserter(evidence.blocks));
}

std::expected<node::Evidence, Error> examine_stopped(const std::filesystem::path& path, const std::string& name,
                                                     NodeId id, const OfflineFence& fence) {
  auto directory = ReplicaDirectory::open(path, ReplicaDirectory::Check::kWhole);
  if (!directory) return std::unexpected(directory.error());
  node::ReplicaOptions options;
  options.name = name, options.id = id;
  for (const node::MemberRecord& member : directory->state.policy.members)
    if (member.log_id == directory->state.log_id && name.empty()) options.name = member.name, options.id = member.id;
  if (options.name.empty()) options.name = path.filename().string();
  options.log_only = directory->state.log_only;
  Memory ring(4 << 20), compare(64 << 10);
  if (auto loaded = load_last_block(*directory, ring.span()); !loaded) return std::unexpected(loaded.error());
  const Instant now = dataplane::monotonic_now();
  node::ReplicaNode node(options, directory->state, directory->recovered, ring.span(), compare.span(), now);
  if (!fence.candidate.empty()) {
    const std::uint32_t promised = directory->state.promise.epoch.term;
    const bool again = directory->state.promise.candidate == fence.candidate;
    if (auto done =
            node.fence(fence.term.value_or(again ? promised : promised + 1), fence.candidate, fence.supersede, now);
        !done)
      return std::unexpected(done.error());
    while (auto persist = node.next_persist()) {
      if (auto kept = wal::io::durable_replace(directory->state_file(), persist->content); !kept)
        return std::unexpected(kept.error());
      node.on_disk({persist->id, node::DiskStatus::kOk}, now);
    }
  }
  node::Evidence evidence = node.evidence();
  add_blocks(evidence, directory->wal(), directory->state.segment_size);
  return evidence;
}

}  // namespace slipstream::app
