#include "app/adopt_log.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "app/commands.h"
#include "app/config.h"
#include "app/log_order.h"
#include "app/promotion.h"
#include "wal/io/ledger_files.h"
#include "wal/io/splice.h"

namespace slipstream::app {
namespace {

constexpr std::uint64_t kComparedBelowFinal = 256 * wal::kBlockBytes;
constexpr const char* kMakeAnew =
    "make the standby anew from the better log: with its own standby there (a copy of one that has replayed less), "
    "promote that member instead";

std::unexpected<Error> refused(std::string what, std::string remedy) {
  return std::unexpected(Error{ExitCode::kRefused, std::move(what), "adopt-log", std::move(remedy)});
}

// What labels its bytes, and where it ends.
node::Evidence summary(const ReplicaDirectory& directory) {
  node::Evidence out;
  const node::State& s = directory.state;
  out.log_id = s.log_id, out.system = s.system, out.timeline = s.timeline, out.promise = s.promise,
  out.held_epoch = s.held_epoch;
  out.log_begin = s.log_begin, out.durable_end = directory.recovered.durable_end,
  out.final_end = std::min(s.final_end, out.durable_end);
  out.counted_end = std::max(s.counted_end, out.durable_end), out.epoch_map = s.epoch_map;
  return out;
}

class Adoption {
 public:
  Adoption(ReplicaDirectory& own, const ReplicaDirectory& other, std::string own_name, std::string other_name)
      : own_(own),
        other_(other),
        own_name_(std::move(own_name)),
        other_name_(std::move(other_name)),
        own_source_(source_of(own)),
        other_source_(source_of(other)) {}

  std::expected<AdoptedLog, Error> run(const std::optional<node::Evidence>& evidence) {
    if (auto fit = check_promises(); !fit) return std::unexpected(fit.error());
    if (auto fit = check_timelines(); !fit) return std::unexpected(fit.error());
    if (auto fit = check_evidence(evidence); !fit) return std::unexpected(fit.error());
    if (auto prefix = check_prefix(); !prefix) return std::unexpected(prefix.error());
    AdoptedLog result{other_name_, own_end(), std::max(own_end(), other_end()), 0};
    if (own_end() > other_end()) return result;
    if (own_end() < other_end()) {
      if (auto done = persist_labels(); !done) return std::unexpected(done.error());
      const auto copied = copy();
      if (!copied) return std::unexpected(copied.error());
      result.segments = *copied;
    }
    if (auto done = persist_end(); !done) return std::unexpected(done.error());
    return result;
  }

 private:
  Lsn own_end() const { return own_.recovered.durable_end; }
  Lsn other_end() const { return other_.recovered.durable_end; }

  std::expected<void, Error> check_promises() const {
    const node::State &own = own_.state, &other = other_.state;
    if (other.log_id == own.log_id)
      return std::unexpected(Error{ExitCode::kUsage, "this is the replica's own log", other_.path.string(),
                                   "name the directory of the better replica, or a copy of it"});
    if (other.system != own.system || other.segment_size != own.segment_size)
      return refused(fmt::format("the log of {} is of another cluster (system identifier {}, here {})", other_name_,
                                 other.system.value, own.system.value),
                     "take a log of this cluster");
    if (own.promoted || other.promoted)
      return refused(fmt::format("{} was promoted already", own.promoted ? own_name_ : other_name_),
                     "it is a primary now: make other replicas from it with init-standby");
    const std::uint32_t term = own.promise.epoch.term;
    if (own.promise.candidate != own_name_)
      return refused(fmt::format("{} has not promised a term to itself, so it is not being promoted", own_name_),
                     fmt::format("fence it and the others first: slipstream fence -c FILE --candidate {}", own_name_));
    if (other.promise.candidate != own_name_ || other.promise.epoch.term != term)
      return refused(
          fmt::format("{} has promised term {} to {}, not term {} to {}", other_name_, other.promise.epoch.term,
                      other.promise.candidate.empty() ? "a running primary" : other.promise.candidate, term, own_name_),
          fmt::format(
              "fence it (slipstream fence -c FILE --candidate {} --term {}, on {}), and copy its directory after that",
              own_name_, term, other_name_));
    if (own.replacement || other.replacement)
      return refused(fmt::format("the log of {} is being replaced in part", own.replacement ? own_name_ : other_name_),
                     "start its daemon once, so that it finishes that");
    return {};
  }

  std::expected<void, Error> check_timelines() const {
    const TimelineId own = own_.state.timeline, other = other_.state.timeline;
    if (own == other && own_.history == other_.history) return {};
    if (const auto history = wal::TimelineHistory::parse(other, other_.history); own != other && history)
      for (const auto& ancestor : history->ancestors())
        if (ancestor.timeline == own) return {};
    return refused(fmt::format("the log of {} is on timeline {}, which does not go on from timeline {} here",
                               other_name_, other.value, own.value),
                   kMakeAnew);
  }

  std::expected<void, Error> check_evidence(const std::optional<node::Evidence>& evidence) {
    if (!evidence) return {};
    if (evidence->log_id != other_.state.log_id)
      return refused(fmt::format("the evidence is of another log of {} than {}", evidence->name, other_.path.string()),
                     "give the evidence that this log's replica answered to its fence");
    if (evidence->durable_end > other_end())
      return refused(fmt::format("the copy ends at {}, but {} answered its fence with {} durable",
                                 to_string(other_end()), other_name_, to_string(evidence->durable_end)),
                     "copy the directory again, whole");
    for (const wal::BlockDigest& block : evidence->blocks)
      if (block.range.begin >= other_.state.log_begin &&
          wal::io::digest_blocks(other_source_, other_.layout(), block.range) != std::vector{block})
        return refused(fmt::format("the copy differs from what {} answered to its fence, at {}", other_name_,
                                   to_string(block.range.begin)),
                       "copy the directory again, whole");
    return {};
  }

  std::expected<void, Error> check_prefix() {
    const node::Evidence own = summary(own_), other = summary(other_);
    const std::uint64_t block = align_down(std::min(own.final_end, other.final_end), wal::kBlockBytes).value;
    const Lsn begin =
        std::max({own.log_begin, other.log_begin, Lsn{block > kComparedBelowFinal ? block - kComparedBelowFinal : 0}});
    const Lsn end = std::min(own_end(), other_end());
    const bool empty_before_it =
        own_end() == own.log_begin && other.log_begin <= own.log_begin && own_end() <= other_end();
    if (begin >= end && !empty_before_it)
      return refused(fmt::format("the logs have no bytes in common: {} holds {} to {}, {} holds {} to {}", own_name_,
                                 to_string(own.log_begin), to_string(own_end()), other_name_,
                                 to_string(other.log_begin), to_string(other_end())),
                     kMakeAnew);
    if (begin >= end) return {};
    const auto difference = wal::io::first_difference(own_source_, other_source_, {begin, end});
    if (!difference) return std::unexpected(difference.error());
    if (!*difference) return {};
    const Lsn at = **difference;
    if (at < std::min(own.final_end, other.final_end))
      return refused(fmt::format("the logs differ at {}, below what is final in both ({})", to_string(at),
                                 to_string(std::min(own.final_end, other.final_end))),
                     "one of them is damaged or was written by something else: compare both with pg_waldump, and "
                     "promote from neither before that is known");
    const Epoch of_own = label_at(own, at), of_other = label_at(other, at);
    const bool own_better = of_own != of_other ? of_own > of_other : own_end() >= other_end();
    if (own_better)
      return refused(fmt::format("the logs differ at {}, and that of {} is the better (epoch {}, against {})",
                                 to_string(at), own_name_, to_string(of_own), to_string(of_other)),
                     fmt::format("promote {} as it is", own_name_));
    return refused(
        fmt::format("the logs differ at {}: that of {} is the better (epoch {}, against {}), but bytes to {} would "
                    "have to be replaced here, and the standby may have replayed them",
                    to_string(at), other_name_, to_string(of_other), to_string(of_own), to_string(own_end())),
        kMakeAnew);
  }

  std::expected<void, Error> persist(const node::State& state) {
    auto kept = wal::io::durable_replace(own_.state_file(), node::encode(state));
    if (kept) own_.state = state;
    return kept;
  }

  // Before any byte: what is held is a prefix of the other's, so the other's labels are true of it, and remain so with
  // each byte that is added.
  std::expected<void, Error> persist_labels() {
    node::State state = own_.state;
    state.held_epoch = other_.state.held_epoch;
    state.counted_end = std::min(other_.state.counted_end, own_end());
    state.epoch_map = other_.state.epoch_map, state.tails = other_.state.tails;
    if (state == own_.state) return {};
    return persist(state);
  }

  std::expected<std::size_t, Error> copy() {
    const wal::SegmentLayout layout = own_.layout();
    if (auto dropped = wal::io::remove_ledgers_beyond(own_.ledgers(), layout, own_end()); !dropped)
      return std::unexpected(dropped.error());
    // Bytes of records that never became complete must not follow on what is copied.
    for (const auto& each : wal::io::list_segments(own_.wal(), layout))
      if (layout.begin_of(each.number) >= own_end()) {
        std::error_code problem;
        if (!std::filesystem::remove(each.path, problem) && problem)
          return std::unexpected(Error{ExitCode::kStorage, "cannot remove: " + problem.message(), each.path.string(),
                                       "look at the directory's owner and mode"});
      }
    if (other_.state.timeline != own_.state.timeline) {
      const auto bytes = std::as_bytes(std::span(other_.history.data(), other_.history.size()));
      if (auto kept = wal::io::durable_replace(own_.wal() / wal::history_file_name(other_.state.timeline), bytes);
          !kept)
        return std::unexpected(kept.error());
    }
    const auto history = wal::TimelineHistory::parse(other_.state.timeline, other_.history);
    if (!history) return std::unexpected(history.error());
    std::size_t segments = 0;
    for (Lsn at = layout.segment_begin(own_end()); at < other_end(); at = layout.segment_end(at), ++segments) {
      const std::string file = layout.file_name(history->file_owner(at, layout.segment_size()), layout.number_of(at));
      if (auto done = wal::io::splice_segment(own_.wal() / file, layout, at, own_source_, own_end(), other_source_,
                                              other_end());
          !done)
        return std::unexpected(done.error());
    }
    return segments;
  }

  std::expected<void, Error> persist_end() {
    const wal::SegmentLayout layout = own_.layout();
    node::State state = own_.state;
    if (own_end() < other_end()) state.timeline = other_.state.timeline;
    const auto history = wal::TimelineHistory::parse(
        state.timeline, state.timeline == own_.state.timeline ? own_.history : other_.history);
    if (!history) return std::unexpected(history.error());
    wal::io::FileSegmentSource source(own_.wal(), layout, *history);
    // From a segment before the first that was written, so that the first new record's link is checked.
    const Lsn seam = layout.segment_begin(own_end());
    const Lsn begin = seam <= state.log_begin
                          ? state.log_begin
                          : std::max(state.log_begin, Lsn{seam.value - layout.segment_size().value});
    const auto found = wal::recover(source, layout, begin, wal::Scanner::Start::kPage, {state.system, {}});
    if (found.durable_end != other_end())
      return std::unexpected(
          Error{ExitCode::kDirectory,
                fmt::format("what was copied ends at {} ({}), not at {}", to_string(found.durable_end),
                            wal::to_string(found.stopped_by), to_string(other_end())),
                own_.wal().string(),
                "is the other log still being written, or its copy not whole? Nothing that was here is lost; repeat "
                "with a whole copy"});
    if (state.held_epoch == other_.state.held_epoch)
      state.counted_end = std::max(state.counted_end, std::min(other_.state.counted_end, other_end()));
    state.final_end = std::max(state.final_end, std::min(other_.state.final_end, other_end()));
    if (found.last_record_begin > state.scan_begin)
      state.scan_begin = found.last_record_begin, state.scan_begin_is_record = true;
    if (state.page_magic == 0) state.page_magic = other_.state.page_magic;
    // Whoever holds all that the other held when it was told a policy may know that policy, too (Q5), and the marks
    // that came with it.
    if (other_.state.policy.version > state.policy.version)
      state.policy = other_.state.policy, state.not_held = other_.state.not_held;
    return persist(state);
  }

  ReplicaDirectory& own_;
  const ReplicaDirectory& other_;
  const std::string own_name_, other_name_;
  wal::io::FileSegmentSource own_source_, other_source_;
};

std::string name_of(const ReplicaDirectory& directory, const node::State& knows) {
  for (const node::State* state : {&directory.state, &knows})
    for (const node::MemberRecord& member : state->policy.members)
      if (member.log_id == directory.state.log_id) return member.name;
  return directory.path.string();
}

std::expected<AdoptedLog, Error> adopt(const AdoptLogArguments& arguments) {
  const auto config = load_config(arguments.config);
  if (!config) return std::unexpected(config.error());
  if (config->role != Role::kReplica)
    return std::unexpected(
        Error{ExitCode::kUsage, "this is a primary's configuration", arguments.config, "adopt-log works on replicas"});
  if (config->replica.log_only)
    return refused(config->name + " is log_only: it has no standby to promote",
                   "adopt the log on a member that has one");
  std::optional<node::Evidence> evidence;
  if (!arguments.evidence.empty()) {
    auto read = read_evidence(arguments.evidence);
    if (!read) return std::unexpected(read.error());
    evidence = std::move(*read);
  }
  auto own = ReplicaDirectory::open(config->replica.directory);
  if (!own) return std::unexpected(own.error());
  return adopt_log(*own, arguments.from, config->name, evidence);
}

}  // namespace

std::expected<AdoptedLog, Error> adopt_log(ReplicaDirectory& own, const std::filesystem::path& from,
                                           const std::string& name, const std::optional<node::Evidence>& evidence) {
  struct stat info{};
  if (::stat(own.state_file().c_str(), &info) == 0 && info.st_uid != ::geteuid())
    return std::unexpected(
        Error{ExitCode::kDirectory,
              "the replica's directory belongs to another user: what is copied into it could not be used",
              own.path.string(), "run this as the user that runs the daemon"});
  const auto other = ReplicaDirectory::look_at(from, ReplicaDirectory::Check::kWhole);
  if (!other) return std::unexpected(other.error());
  Adoption adoption(own, *other, name, evidence ? evidence->name : name_of(*other, own.state));
  return adoption.run(evidence);
}

int adopt_log_command(const AdoptLogArguments& arguments) {
  const auto done = adopt(arguments);
  if (!done) return report_error(done.error());
  if (arguments.json)
    std::printf("%s\n", Json{{"from", done->from},
                             {"held_end", to_string(done->held_end)},
                             {"end", to_string(done->end)},
                             {"segments", done->segments}}
                            .dump(2)
                            .c_str());
  else if (done->segments == 0)
    std::printf("nothing to adopt: all that %s holds is here, the log ends at %s\n", done->from.c_str(),
                to_string(done->end).c_str());
  else
    std::printf(
        "adopted the log of %s from %s on (%zu segments); the log ends at %s now\nnext: start the daemon, and repeat "
        "slipstream promote\n",
        done->from.c_str(), to_string(done->held_end).c_str(), done->segments, to_string(done->end).c_str());
  return 0;
}

}  // namespace slipstream::app
