#include "app/restore.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "app/commands.h"
#include "app/config.h"
#include "app/control.h"
#include "app/replica_directory.h"
#include "base/digest.h"
#include "wal/io/files.h"
#include "wal/io/ledger_files.h"
#include "wal/timeline.h"

namespace slipstream::app {
namespace {

using Bytes = std::vector<std::byte>;

Restored not_held(std::string why) { return {false, std::move(why)}; }

bool hexadecimal(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); });
}

bool history_name(std::string_view name) {
  return name.size() == 16 && hexadecimal(name.substr(0, 8)) && name.ends_with(".history");
}

bool backup_name(std::string_view name) {
  return name.size() == 40 && hexadecimal(name.substr(0, 24)) && name[24] == '.' && name.ends_with(".backup");
}

Error damaged(const std::filesystem::path& path, std::string what) {
  return {ExitCode::kDirectory, std::move(what), path.string(),
          "recover from another replica's log or from the archive; slipstream position --check shows the extent"};
}

// The first block that is not as the ledger says.
std::optional<LsnRange> difference(const Bytes& segment, const wal::Ledger& ledger) {
  for (const wal::BlockDigest& block : ledger.blocks) {
    const std::span bytes = std::span(segment).subspan((block.range.begin - ledger.segment.begin).value,
                                                       (block.range.end - block.range.begin).value);
    if (xxh3_128(bytes) != block.digest) return block.range;
  }
  return std::nullopt;
}

std::expected<Bytes, Error> read_segment(const std::filesystem::path& directory, const std::string& name,
                                         const wal::SegmentLayout& layout, const wal::SegmentLayout::Parsed& segment) {
  const std::filesystem::path path = directory / "wal" / name;
  auto bytes = wal::io::read_file(path);
  if (!bytes) return std::unexpected(damaged(path, bytes.error().what));
  if (bytes->size() != layout.segment_size().value)
    return std::unexpected(damaged(
        path, fmt::format("the segment has {} bytes instead of {}", bytes->size(), layout.segment_size().value)));
  std::error_code ignored;
  if (!std::filesystem::exists(directory / "ledger" / name, ignored)) return bytes;
  const auto ledger = wal::io::load_ledger(directory / "ledger", layout, segment.timeline, segment.number);
  if (!ledger) {
    if (!std::filesystem::exists(directory / "ledger" / name, ignored)) return bytes;  // Removed meanwhile.
    return std::unexpected(ledger.error());
  }
  if (const auto found = difference(*bytes, *ledger))
    return std::unexpected(damaged(
        path, fmt::format("the segment differs from its ledger in the block {}: it is damaged", to_string(*found))));
  return bytes;
}

std::expected<wal::TimelineHistory, Error> history_of(const std::filesystem::path& directory, TimelineId timeline) {
  if (timeline.value <= 1) return wal::TimelineHistory(timeline);
  const auto content = wal::io::read_file(directory / "wal" / wal::history_file_name(timeline));
  if (!content) return std::unexpected(content.error());
  return wal::TimelineHistory::parse(timeline,
                                     std::string_view(reinterpret_cast<const char*>(content->data()), content->size()));
}

// Why this segment is not to be given; nothing when it is.
std::expected<std::optional<std::string>, Error> objection(const std::filesystem::path& directory,
                                                           const node::State& state, Lsn final_end,
                                                           const wal::SegmentLayout& layout,
                                                           const wal::SegmentLayout::Parsed& segment) {
  const auto history = history_of(directory, state.timeline);
  if (!history) return std::unexpected(history.error());
  const Lsn begin = layout.begin_of(segment.number), end = layout.begin_of(segment.number + 1);
  if (begin < state.log_begin)
    return fmt::format("it is older than what is held: the log begins at {}", to_string(state.log_begin));
  if (const Lsn known = std::max(final_end, state.final_end); end > known)
    return fmt::format("it ends at {}, and only what lies below {} is final", to_string(end), to_string(known));
  if (const TimelineId owner = history->file_owner(begin, layout.segment_size()); owner != segment.timeline)
    return fmt::format("these positions are in {}", layout.file_name(owner, segment.number));
  return std::nullopt;
}

std::expected<Restored, Error> restore_segment(const std::filesystem::path& directory, Lsn final_end,
                                               const std::string& name, const std::filesystem::path& destination) {
  const auto state = ReplicaDirectory::state_of(directory);
  if (!state) return std::unexpected(state.error());
  const wal::SegmentLayout layout(state->segment_size);
  const auto segment = layout.parse(name);
  if (!segment)
    return std::unexpected(Error{
        ExitCode::kUsage,
        fmt::format("{} names no segment of {} MiB, as this cluster's are", name, layout.segment_size().value >> 20),
        directory.string(), "give the directory of a replica of this cluster"});
  if (segment->partial) return not_held("a replica keeps no partial segments");
  const auto why_not = objection(directory, *state, final_end, layout, *segment);
  if (!why_not) return std::unexpected(why_not.error());
  if (*why_not) return not_held(**why_not);
  const auto bytes = read_segment(directory, name, layout, *segment);
  if (!bytes) {
    // The daemon may have removed it since the state file was read.
    const auto now = ReplicaDirectory::state_of(directory);
    if (now && layout.begin_of(segment->number) < now->log_begin)
      return not_held(fmt::format("it is older than what is held: the log begins at {}", to_string(now->log_begin)));
    return std::unexpected(bytes.error());
  }
  if (auto kept = wal::io::durable_replace(destination, *bytes); !kept) return std::unexpected(kept.error());
  return Restored{true, ""};
}

std::expected<Restored, Error> restore_history(const std::filesystem::path& directory, const std::string& name,
                                               const std::filesystem::path& destination) {
  if (const auto state = ReplicaDirectory::state_of(directory); !state) return std::unexpected(state.error());
  const std::filesystem::path path = directory / "wal" / name;
  std::error_code problem;
  if (!std::filesystem::exists(path, problem) && !problem) return not_held("no such timeline is known here");
  const auto bytes = wal::io::read_file(path);
  if (!bytes) return std::unexpected(bytes.error());
  if (auto kept = wal::io::durable_replace(destination, *bytes); !kept) return std::unexpected(kept.error());
  return Restored{true, ""};
}

// What the daemon says is final; zero when it is dead or slow: the state file knows enough then.
Lsn final_end_of(const Config& config) {
  const auto status = control_call(config.runtime.control_socket, {{"command", "status"}}, std::chrono::seconds(2));
  if (!status || !status->contains("replica")) return {};
  return parse_lsn((*status)["replica"].value("final_end", "")).value_or(Lsn{});
}

int restore_failed(const Error& error) {
  (void)report_error(error);
  return kRestoreFailed;
}

}  // namespace

std::expected<Restored, Error> restore_file(const std::filesystem::path& directory, Lsn final_end,
                                            const std::string& name, const std::filesystem::path& destination) {
  if (history_name(name)) return restore_history(directory, name, destination);
  if (backup_name(name)) return not_held("a replica keeps no backup histories");
  if (!hexadecimal(std::string_view(name).substr(0, 24)) || name.size() < 24)
    return std::unexpected(Error{ExitCode::kUsage, "'" + name + "' is not a name that PostgreSQL asks an archive for",
                                 "", "restore_command = 'slipstream restore -c FILE %f %p'"});
  return restore_segment(directory, final_end, name, destination);
}

int restore_command(const RestoreArguments& arguments) {
  std::filesystem::path directory = arguments.directory;
  Lsn final_end{};
  if (directory.empty()) {
    const auto config = load_config(arguments.config);
    if (!config) return restore_failed(config.error());
    if (config->role != Role::kReplica)
      return restore_failed({ExitCode::kConfiguration, "this is a primary's configuration: only replicas hold a log",
                             arguments.config, "give a replica's with -c, or its directory with --directory"});
    directory = config->replica.directory;
    final_end = final_end_of(*config);
  }
  const auto restored =
      restore_file(directory, final_end, arguments.name, std::filesystem::absolute(arguments.destination));
  if (!restored) return restore_failed(restored.error());
  if (restored->done) return 0;
  std::fprintf(stderr, "%s: not held in %s: %s\n", arguments.name.c_str(), directory.c_str(),
               restored->why_not.c_str());
  return 1;
}

}  // namespace slipstream::app
