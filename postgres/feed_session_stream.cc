#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "postgres/feed_session.h"

// How a session streams.
namespace slipstream::postgres {
namespace {

constexpr std::size_t kPayloadBytesMax = 128 * 1024;  // A walsender's MAX_SEND_SIZE.
constexpr std::size_t kBacklogBytes = 256 * 1024;     // Unsent bytes from which on no more is read.
constexpr Duration kIdleKeepalive = seconds(5);
// The standby says on its own how far its replay is only now and then: asked while it lags, soon at first.
constexpr std::array kAskAfter = {milliseconds(10), milliseconds(20), milliseconds(50), milliseconds(100)};

bool is_a_tool(std::string_view application_name) {
  return application_name == "pg_receivewal" || application_name == "pg_basebackup";
}

// The one of `timeline`'s ends, if it has ended: {its successor, where that began}.
std::optional<wal::TimelineHistory::Ancestor> switch_of(const wal::TimelineHistory& history, TimelineId timeline) {
  const auto& ancestors = history.ancestors();
  for (std::size_t i = 0; i < ancestors.size(); ++i)
    if (ancestors[i].timeline == timeline)
      return wal::TimelineHistory::Ancestor{i + 1 < ancestors.size() ? ancestors[i + 1].timeline : history.timeline(),
                                            ancestors[i].end};
  return std::nullopt;
}

}  // namespace

void FeedSession::on_start(const StartStreaming& command, const node::Release& release, Instant now) {
  timeline_ = command.timeline.value != 0 ? command.timeline : release.timeline;
  switch_.reset();
  const auto* history = context_.source->history(release.timeline);
  if (!history)
    return answer(FeedError{"58P01",
                            fmt::format("could not read file \"pg_wal/{}\"", wal::history_file_name(release.timeline)),
                            "", "Fetch it from the primary's pg_wal."});
  if (timeline_ != release.timeline) {
    switch_ = switch_of(*history, timeline_);
    if (!switch_)
      return answer(
          FeedError{"XX000", fmt::format("requested timeline {} is not in this server's history", timeline_.value)});
    if (switch_->end < command.start)
      return answer(FeedError{"XX000",
                              fmt::format("requested starting point {} on timeline {} is not in this server's history",
                                          to_string(command.start), timeline_.value),
                              fmt::format("This server's history forked from timeline {} at {}.", timeline_.value,
                                          to_string(switch_->end))});
  }
  start_ = sent_end_ = command.start;
  if (switch_ && switch_->end == command.start) return finish_timeline();
  out_.copy_both_response();
  if (command.start < context_.source->log_begin()) return stop_on(FeedRead::kMissing, timeline_);
  state_ = State::kStreaming;
  ++stream_;
  may_be_standby_ =
      context_.standby_name.empty() ? !is_a_tool(application_name_) : application_name_ == context_.standby_name;
  done_sending_ = done_receiving_ = false;
  status_.reset();
  feedback_.reset();
  asks_ = 0;
  // At once, so that its positions are known before anything moves them.
  if (may_be_standby_) send_keepalive(release, true, now);
  keepalive_at_ = now + kIdleKeepalive;
  ask_at_ = now + kAskAfter.front();
}

Lsn FeedSession::needed_from() const {
  if (!status_) return start_;
  if (may_be_standby_)
    return status_->flush.value == 0 || status_->apply.value == 0 ? start_ : std::min(status_->flush, status_->apply);
  // A reader that does not say what it has flushed (pg_receivewal without a slot) starts again at its newest file.
  return std::max(start_, status_->flush.value != 0 ? status_->flush : status_->write);
}

bool FeedSession::behind() const { return may_be_standby_ && (status_ ? status_->apply : start_) < sent_end_; }

// The replica's timeline may end while one streams from it. False: nothing can be sent now.
bool FeedSession::follow_timeline(const node::Release& release) {
  if (timeline_ == release.timeline) return true;
  const auto* history = context_.source->history(release.timeline);
  if (!history) return false;
  switch_ = switch_of(*history, timeline_);
  return switch_.has_value();
}

void FeedSession::send_wal(const node::Release& release, Instant now) {
  if (done_sending_ || !follow_timeline(release)) return;
  const auto* history = context_.source->history(release.timeline);
  const Lsn before = sent_end_;
  const Lsn limit = switch_ ? std::min(release.fed_end, switch_->end) : release.fed_end;
  while (history && sent_end_ < limit && output().size() < kBacklogBytes)
    if (!send_piece(*history, limit, release)) return;
  if (sent_end_ > before) {
    const bool was_behind = may_be_standby_ && (status_ ? status_->apply : start_) < before;
    if (!was_behind) asks_ = 0, ask_at_ = now + kAskAfter.front();
    keepalive_at_ = now + kIdleKeepalive;
  }
  if (switch_ && sent_end_ >= switch_->end) {
    out_.copy_done();
    done_sending_ = true;
  }
}

// Never past a segment, nor past a fork: both are other files.
Lsn FeedSession::piece_end(const wal::TimelineHistory& history, Lsn limit) const {
  Lsn bound = std::min(limit, context_.source->layout().segment_end(sent_end_));
  for (const auto& ancestor : history.ancestors())
    if (ancestor.end > sent_end_) bound = std::min(bound, ancestor.end);
  if (bound - sent_end_ <= ByteCount{kPayloadBytesMax}) return bound;
  return align_down(sent_end_ + ByteCount{kPayloadBytesMax}, wal::kPageBytes);
}

bool FeedSession::send_piece(const wal::TimelineHistory& history, Lsn limit, const node::Release& release) {
  const Lsn end = piece_end(history, limit);
  const std::size_t before = output().size();
  const auto payload = out_.xlog_data(sent_end_, std::max(release.primary_flushed_end, end), context_.wall_us(),
                                      (end - sent_end_).value);
  const FeedRead result = context_.source->read(history, sent_end_, payload);
  if (result != FeedRead::kOk) {
    out_.truncate(before);
    stop_on(result, history.owner_of(sent_end_));
    return false;
  }
  sent_end_ = end;
  return true;
}

// PostgreSQL's own words, which people look up and standbys retry on.
void FeedSession::stop_on(FeedRead problem, TimelineId timeline) {
  const auto& layout = context_.source->layout();
  const std::string name = layout.file_name(timeline, layout.number_of(sent_end_));
  if (problem == FeedRead::kMissing) {
    if (!is_a_tool(application_name_))
      refused_start_ = fmt::format("{} asked for {}, but this log begins at {}",
                                   application_name_.empty() ? "a reader" : application_name_, to_string(sent_end_),
                                   to_string(context_.source->log_begin()));
    return answer(FeedError{
        "58P01", fmt::format("requested WAL segment {} has already been removed", name),
        fmt::format("This replica's log begins at {}.", to_string(context_.source->log_begin())),
        "Let the standby fetch the earlier WAL by its restore_command, or make it anew with slipstream init-standby."});
  }
  answer(FeedError{"58030",
                   fmt::format("could not read from WAL segment {}, offset {}", name, layout.offset_of(sent_end_)), "",
                   "Look at the replica's disk."});
}

void FeedSession::end_stream() {
  state_ = State::kCommands;
  if (switch_ && sent_end_ >= switch_->end) return finish_timeline();
  out_.command_complete("START_STREAMING");
  out_.command_complete("START_REPLICATION");
  out_.ready_for_query();
}

// Tells the client which timeline goes on, and from where.
void FeedSession::finish_timeline() {
  const BackendMessages::Column columns[] = {{"next_tli", BackendMessages::Type::kInt8}, {"next_tli_startpos"}};
  const BackendMessages::Value values[] = {std::to_string(switch_->timeline.value), to_string(switch_->end)};
  out_.row_description(columns);
  out_.data_row(values);
  out_.command_complete("START_STREAMING");
  out_.command_complete("START_REPLICATION");
  out_.ready_for_query();
}

void FeedSession::send_keepalive(const node::Release& release, bool reply_requested, Instant now) {
  if (done_sending_) return;
  const Lsn sent_end = sent_end_ > start_ ? sent_end_ : Lsn{};  // A start that lies ahead was only asked for.
  out_.keepalive(std::max(release.primary_flushed_end, sent_end), context_.wall_us(), reply_requested);
  keepalive_at_ = now + kIdleKeepalive;
}

void FeedSession::keep_alive(const node::Release& release, Instant now) {
  if (now >= heard_at_ + context_.receive_timeout) {
    state_ = State::kEnded;
    abandoned_ = true;
    return;
  }
  const bool backlog = !output().empty();
  if (behind() && now >= ask_at_) {
    if (!backlog) send_keepalive(release, true, now);
    asks_ = std::min(asks_ + 1, kAskAfter.size() - 1);
    ask_at_ = now + kAskAfter[asks_];
  }
  if (now >= keepalive_at_) {
    // Whoever has been silent for half the time must answer to stay.
    const bool silent = now >= heard_at_ + Duration{context_.receive_timeout.ns / 2};
    if (!backlog) send_keepalive(release, silent, now);
    keepalive_at_ = now + kIdleKeepalive;
  }
}

}  // namespace slipstream::postgres
