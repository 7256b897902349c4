#include "app/log_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include "app/config.h"
#include "app/replica_directory.h"
#include "postgres/sql_session.h"
#include "wal/io/files.h"
#include "wal/io/ledger_files.h"
#include "wal/recovery.h"

namespace slipstream::app {
namespace {

namespace fs = std::filesystem;

// The beginning of a segment's or a ledger's file. Source: PostgreSQL's XLogLongPageHeaderData; docs/segment_format.md.
struct Beginning {
  bool ledger = false;
  ByteCount segment_size;
  std::optional<SystemId> system;
};

std::uint64_t number_at(const std::array<char, 40>& bytes, std::size_t at, std::size_t size) {
  std::uint64_t out = 0;
  std::memcpy(&out, bytes.data() + at, size);
  return out;
}

std::optional<Beginning> beginning_of(const fs::path& file) {
  std::array<char, 40> bytes{};
  std::ifstream in(file, std::ios::binary);
  if (!in.read(bytes.data(), bytes.size())) return std::nullopt;
  Beginning out;
  if (std::string_view(bytes.data(), 8) == "SLIPLEDG") {
    const std::uint64_t begin = number_at(bytes, 24, 8), end = number_at(bytes, 32, 8);
    out = {true, ByteCount{end - begin}, std::nullopt};
  } else {
    constexpr std::uint64_t kLongHeader = 2;
    if ((number_at(bytes, 2, 2) & kLongHeader) == 0) return std::nullopt;
    out = {false, ByteCount{number_at(bytes, 32, 4)}, SystemId{number_at(bytes, 24, 8)}};
    std::error_code problem;
    if (fs::file_size(file, problem) != out.segment_size.value || problem) return std::nullopt;
  }
  return wal::SegmentLayout::valid_size(out.segment_size) ? std::optional(out) : std::nullopt;
}

bool named_like_a_segment(const std::string& name) {
  return name.size() == 24 && name.find_first_not_of("0123456789ABCDEF") == name.npos;
}

// Of the first file there that is one.
std::optional<Beginning> beginning_in(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code problem;
  for (fs::directory_iterator each(directory, problem), end; !problem && each != end; each.increment(problem))
    if (named_like_a_segment(each->path().filename())) files.push_back(each->path());
  std::ranges::sort(files);
  for (const fs::path& file : files)
    if (auto found = beginning_of(file)) return found;
  return std::nullopt;
}

wal::TimelineHistory history_in(const fs::path& directory, TimelineId timeline) {
  const auto content = wal::io::read_file(directory / wal::history_file_name(timeline));
  if (content) {
    const std::string_view text(reinterpret_cast<const char*>(content->data()), content->size());
    if (auto parsed = wal::TimelineHistory::parse(timeline, text)) return *parsed;
  }
  return wal::TimelineHistory(timeline);
}

TimelineId newest_in(const fs::path& directory, const wal::SegmentLayout& layout) {
  TimelineId newest{1};
  for (const auto& each : wal::io::list_segments(directory, layout)) newest = std::max(newest, each.timeline);
  return newest;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

std::expected<LogCopy, Error> LogCopy::open(const fs::path& place) {
  std::error_code problem;
  if (fs::is_regular_file(place, problem)) return of_configuration(place);
  auto copy = is_there(place / "state") && is_there(place / "wal") ? of_replica(place)
              : is_there(place / "pg_wal")                         ? of_files(place / "pg_wal")
              : is_there(place / "ledger")                         ? of_files(place / "ledger")
                                                                   : of_files(place);
  if (copy) copy->name_ = place.string();
  return copy;
}

std::expected<LogCopy, Error> LogCopy::of_configuration(const fs::path& file) {
  const auto config = load_config(file.string());
  if (!config) return std::unexpected(config.error());
  auto copy = config->role == Role::kReplica ? of_replica(config->replica.directory) : of_primary(file, *config);
  if (copy) copy->name_ = config->name;
  return copy;
}

// What was confirmed on a primary it has, too: so its end is that of whom it is compared with.
std::expected<LogCopy, Error> LogCopy::of_primary(const fs::path& file, const Config& config) {
  const fs::path ledgers = fs::path(config.primary.state_directory) / "ledger";
  fs::path wal = config.primary.wal_directory;
  std::string note;
  if (wal.empty()) {
    auto session = postgres::SqlSession::connect(config.primary.conninfo, config.primary.application_name + "_verify");
    const auto directory = session ? session->value("SELECT current_setting('data_directory')")
                                   : std::expected<std::string, Error>(std::unexpected(session.error()));
    if (directory)
      wal = fs::path(*directory) / "pg_wal";
    else
      note = "its bytes cannot be read, only its ledgers: " + directory.error().what;
  }
  const auto found = beginning_in(wal.empty() ? ledgers : wal);
  if (!found)
    return std::unexpected(
        Error{ExitCode::kDirectory, "no segments were found of the primary that this file describes",
              wal.empty() ? ledgers.string() : wal.string(),
              wal.empty() ? note : "run this on the primary's host, as a user that may read pg_wal"});
  LogCopy out(file.string(), wal::SegmentLayout(found->segment_size));
  out.note_ = std::move(note), out.system_ = found->system;
  if (is_there(ledgers)) out.ledgers_ = ledgers;
  const fs::path& first = wal.empty() ? ledgers : wal;
  out.history_ = history_in(first, newest_in(first, out.layout_));
  if (!wal.empty()) out.use_segments(wal, out.history_);
  return out;
}

std::expected<LogCopy, Error> LogCopy::of_replica(const fs::path& directory) {
  const auto state = ReplicaDirectory::state_of(directory);
  if (!state) return std::unexpected(state.error());
  LogCopy out(directory.string(), wal::SegmentLayout(state->segment_size));
  if (auto fit = wal::io::check_replica_directory(directory / "wal", out.layout_, wal::io::LogUse::kRead); !fit)
    return std::unexpected(fit.error());
  out.system_ = state->system, out.replica_ = directory;
  if (is_there(directory / "ledger")) out.ledgers_ = directory / "ledger";
  out.use_segments(directory / "wal", history_in(directory / "wal", state->timeline));
  return out;
}

std::expected<LogCopy, Error> LogCopy::of_files(const fs::path& directory) {
  std::error_code problem;
  const fs::directory_iterator there(directory, problem);
  if (problem)
    return std::unexpected(Error{ExitCode::kDirectory, "cannot read the directory: " + problem.message(),
                                 directory.string(), "check the path, and that this user may read it"});
  const auto found = beginning_in(directory);
  if (!found)
    return std::unexpected(Error{
        ExitCode::kDirectory, "nothing of a log is there: neither segments nor ledgers of segments", directory.string(),
        "give a replica's directory, a data directory or its pg_wal, an archive, a primary's state directory, or a "
        "configuration file"});
  LogCopy out(directory.string(), wal::SegmentLayout(found->segment_size));
  out.system_ = found->system;
  const wal::TimelineHistory history = history_in(directory, newest_in(directory, out.layout_));
  if (found->ledger)
    out.ledgers_ = directory, out.history_ = history;
  else
    out.use_segments(directory, history), out.end_is_known_ = false;
  return out;
}

void LogCopy::use_segments(const fs::path& directory, wal::TimelineHistory history) {
  wal_ = directory, history_ = std::move(history);
  source_ = std::make_unique<wal::io::FileSegmentSource>(wal_, layout_, history_);
}

LsnRange LogCopy::range() const {
  if (!replica_.empty()) {
    const auto state = ReplicaDirectory::state_of(replica_);
    return state ? LsnRange{state->log_begin, std::max(state->log_begin, state->final_end)} : LsnRange{};
  }
  const auto files = wal::io::list_segments(has_bytes() ? wal_ : ledgers_, layout_);
  if (files.empty()) return {};
  return {layout_.begin_of(files.front().number), layout_.begin_of(files.back().number + 1)};
}

bool LogCopy::begins_rightly(std::uint64_t number) {
  const std::vector<std::byte> header = bytes({layout_.begin_of(number), layout_.begin_of(number) + ByteCount{40}});
  std::uint64_t at = 0, system = 0;
  if (header.size() != 40) return false;
  std::memcpy(&at, header.data() + 8, sizeof at), std::memcpy(&system, header.data() + 24, sizeof system);
  return at == layout_.begin_of(number).value && SystemId{system} == system_;
}

LogCopy::Ending LogCopy::ending_near(Lsn at) {
  const Lsn begin = layout_.segment_begin(at);
  const auto found =
      wal::recover(*source_, layout_, begin, wal::Scanner::Start::kPage, {system_.value_or(SystemId{}), {}});
  return {found.durable_end, found.durable_end > at || begins_rightly(layout_.number_of(at) + 1)};
}

std::optional<LogCopy::Held> LogCopy::held_in(const fs::path& directory, std::uint64_t number) const {
  if (directory.empty()) return std::nullopt;
  for (const TimelineId timeline : history_.file_candidates(layout_.begin_of(number), layout_.segment_size())) {
    const fs::path file = directory / layout_.file_name(timeline, number);
    if (is_there(file)) return Held{timeline, file};
  }
  // Ledgers may have come without the timeline's history.
  if (history_.ancestors().empty())
    for (TimelineId earlier{history_.timeline().value - 1}; earlier.value > 0; --earlier.value)
      if (const fs::path file = directory / layout_.file_name(earlier, number); is_there(file))
        return Held{earlier, file};
  return std::nullopt;
}

std::expected<std::optional<wal::Ledger>, Error> LogCopy::ledger(std::uint64_t number) const {
  const auto held = held_in(ledgers_, number);
  if (!held) return std::nullopt;
  auto loaded = wal::io::load_ledger(ledgers_, layout_, held->timeline, number);
  if (loaded) return std::move(*loaded);
  if (!is_there(held->file)) return std::nullopt;  // Removed meanwhile.
  return std::unexpected(loaded.error());
}

std::vector<wal::BlockDigest> LogCopy::digests(LsnRange range) {
  return wal::io::digest_blocks(*source_, layout_, range);
}

std::vector<std::byte> LogCopy::bytes(LsnRange range) {
  std::vector<std::byte> out(range.size().value);
  std::size_t have = 0;
  while (have < out.size()) {
    const std::size_t got = source_->read(range.begin + ByteCount{have}, std::span(out).subspan(have));
    if (got == 0) break;
    have += got;
  }
  out.resize(have);
  return out;
}

}  // namespace slipstream::app
