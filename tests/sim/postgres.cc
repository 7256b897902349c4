#include "tests/sim/postgres.h"

#include <algorithm>

#include "base/digest.h"

namespace slipstream::sim {

bool Upstream::next_event(node::UpstreamEvent& event) {
  if (events.empty()) return false;
  event = std::move(events.front());
  events.pop_front();
  if (std::holds_alternative<node::UpstreamConnected>(event)) last_ = {}, ++connections_seen;
  on_event(event);
  return true;
}

void Upstream::report(const node::Report& report) {
  if (report == last_) return;
  last_ = report;
  on_report(report);
}

Postgres::Postgres(Common common, Random random)
    : common_(common), random_(random), written_random_(~Random(random).next()) {
  for (int i = 0; i < 4; ++i) write(100);
  flushed_end_ = wal_.end();
}

// ---- WAL

Lsn Postgres::write(std::size_t payload_bytes) {
  if (!same_lengths_.empty()) payload_bytes = same_lengths_.front(), same_lengths_.pop_front();
  const Lsn end = wal_.record(payload_bytes, static_cast<std::uint8_t>(random_.from_to(1, 255)));
  records_.emplace_back(end, wal_.previous());
  payloads_.push_back(payload_bytes);
  if (ahead && on_written)
    common_.scheduler.after(written_random_.between({0}, microseconds(100)), [this] { on_written(); });
  return end;
}

void Postgres::copy_stale(LsnRange range, std::span<std::byte> into) const {
  std::ranges::fill(into, std::byte{0});
  const Lsn end = std::min(range.end, kOrigin + ByteCount{stale_.size()});
  if (range.begin < end)
    std::ranges::copy(std::span(stale_).subspan((range.begin - kOrigin).value, (end - range.begin).value),
                      into.begin());
}

Lsn Postgres::record_floor(Lsn at) const {
  const auto it = std::ranges::upper_bound(records_, at, {}, &std::pair<Lsn, Lsn>::first);
  return it == records_.begin() ? kOrigin : std::prev(it)->first;
}

Lsn Postgres::record_floor(Lsn at, Lsn log_begin) const {
  const auto it = std::ranges::upper_bound(records_, at, {}, &std::pair<Lsn, Lsn>::first);
  return it != records_.begin() && std::prev(it)->second >= log_begin ? std::prev(it)->first : log_begin;
}

bool Postgres::is_covered(Lsn at, Lsn log_begin) const {
  const auto it = std::ranges::upper_bound(records_, at, {}, &std::pair<Lsn, Lsn>::first);
  if (it == records_.end() || it->second > at || it->second < log_begin) return false;
  const bool page_header = at.value % wal::kPageBytes < 40;
  const bool padding = (it->first - at).value < 8;
  return !page_header && !padding;
}

void Postgres::want_flush() {
  if (flushing_ || !running_) return;
  flushing_ = true;
  Duration time = random_.between(microseconds(30), microseconds(random_.chance(0.02) ? 20'000 : 600));
  // Longer than it takes to make a new connection.
  if (ahead && written_random_.chance(0.05)) time = time + written_random_.between({0}, milliseconds(300));
  Lsn target = wal_.end();
  if (random_.chance(0.4) && align_down(target, wal::kPageBytes) > flushed_end_)
    target = align_down(target, wal::kPageBytes);  // Whole pages only, so perhaps the middle of a record.
  common_.scheduler.after(time, [this, target, life = life_] {
    if (life == life_) flush_to(target);
  });
}

void Postgres::flush_to(Lsn end) {
  flushing_ = false;
  flushed_end_ = std::max(flushed_end_, end);
  common_.trace.note("server", "flushed", flushed_end_.value);
  stream();
  release_waiters();
  if (at_next_commit && record_floor(flushed_end_) != flushed_end_)
    common_.scheduler.after(random_.between({0}, microseconds(60)), std::exchange(at_next_commit, nullptr));
  if (flushed_end_ < wal_.end()) want_flush();
}

// ---- Clients

void Postgres::start(const Load& load) {
  load_ = load;
  ++life_, flushing_ = false;
  want_flush();
  for (std::size_t i = 0; i < load_.clients; ++i) think(i);
}

void Postgres::think(std::size_t client) {
  common_.scheduler.after(random_.between({0}, load_.think * 2), [this, client, life = life_] {
    if (life == life_ && running_ && client < load_.clients) begin_commit(client);
  });
}

void Postgres::begin_commit(std::size_t client) {
  for (std::uint64_t n = random_.below(3); n > 0; --n) write(random_.below(400));
  const Lsn end = write(random_.chance(load_.large) ? random_.below(200'000) : random_.below(600));
  waiting_.push_back({client, end, random_.one_of(load_.levels)});
  common_.trace.note("server", "commits", end.value);
  if (at_next_commit && random_.chance(0.3))
    common_.scheduler.after(random_.between({0}, microseconds(500)), std::exchange(at_next_commit, nullptr));
  want_flush();
}

void Postgres::release_waiters() {
  const auto at = [&](ack::Level level) {
    return level == ack::Level::kReceived  ? sticky_.write
           : level == ack::Level::kDurable ? sticky_.flush
                                           : sticky_.apply;
  };
  std::vector<Waiting> released;
  std::erase_if(waiting_, [&](const Waiting& w) {
    const bool done = w.end <= flushed_end_ && (!load_.waits || w.end <= at(w.level));
    if (done) released.push_back(w);
    return done;
  });
  for (const Waiting& w : released) {
    ++common_.counts.commits;
    common_.trace.note("client", "is told", w.end.value, static_cast<std::uint64_t>(w.level));
    if (load_.waits) on_commit(w.end, w.level);
    think(w.client);
  }
}

// ---- Crashes

// Clients do the same again, so records begin and end where they did: then old ones behind the new ones fit.
void Postgres::expect_same_lengths(Lsn lost_from) {
  same_lengths_.clear();
  for (std::size_t i = 0; i < records_.size(); ++i)
    if (records_[i].second >= lost_from) same_lengths_.push_back(payloads_[i]);
  same_lengths_.resize(written_random_.below(same_lengths_.size() + 1));
}

void Postgres::lose_unflushed() {
  std::vector<Lsn> ends;  // Where the WAL may be whole to.
  for (auto it = records_.rbegin(); it != records_.rend() && it->first >= flushed_end_; ++it) ends.push_back(it->first);
  const Lsn whole = record_floor(flushed_end_);
  if (whole != flushed_end_) ends.push_back(flushed_end_);  // A page's end within a record.
  const Lsn before = wal_.end(), end = random_.chance(0.3) ? ends.back() : random_.one_of(ends);
  if (end < before) common_.counts.note(Fault::kRewrittenWal);
  if (end < before) {
    stale_.resize(std::max(stale_.size(), static_cast<std::size_t>((before - kOrigin).value)));
    std::ranges::copy(wal_.at({end, before}), stale_.begin() + static_cast<std::ptrdiff_t>((end - kOrigin).value));
  }
  if (ahead) expect_same_lengths(end), ++losses_;
  while (!records_.empty() && records_.back().first > end) records_.pop_back(), payloads_.pop_back();
  wal_.cut(end, records_.back().second);
  if (records_.back().first != end) {
    common_.counts.note(Fault::kAbandonedRecord);
    wal_.abandon_record();
  }
  common_.trace.note("server", "lost its WAL from", end.value, before.value);
  if (ahead && end < before) on_lost({end, before});
}

void Postgres::crash() {
  if (!running_) return;
  running_ = false;
  ++life_, flushing_ = false;
  waiting_.clear();
  sticky_ = {};
  ++memory_life_;
  lose_unflushed();
  disconnect(true);
}

void Postgres::stop_in_order() {
  if (!running_) return;
  running_ = false;
  ++life_, flushing_ = false;
  waiting_.clear();
  write(100);
  flushed_end_ = wal_.end();
  stream();
  tell(node::UpstreamStopping{});
  common_.scheduler.after(random_.between(milliseconds(1), milliseconds(100)), [this, life = life_] {
    if (life != life_) return;  // It was started again.
    disconnect(true);
    ++memory_life_;
    sticky_ = {};
  });
}

void Postgres::start_again() {
  if (running_ || gone) return;
  running_ = true;
  ++memory_life_;
  sticky_ = {};
  disconnect(true);
  write(100);  // The end-of-recovery checkpoint.
  flushed_end_ = wal_.end();
  common_.trace.note("server", "runs", flushed_end_.value);
  start(load_);
}

void Postgres::checkpoint() {
  Lsn keep = std::min(slot_, flushed_end_);
  for (const auto& [name, slot] : joining_) keep = std::min(keep, slot.begin);
  kept_from_ = std::max(kept_from_, align_down(keep, kSegmentSize.value));
}

// ---- Replication

// As postgres/forced_flush does it, before there is a connection.
void Postgres::force_flush() {
  flushed_end_ = std::max(flushed_end_, write(40));
  common_.trace.note("server", "is made to flush", flushed_end_.value);
  release_waiters();
}

void Postgres::connect(Upstream* upstream) {
  if (ahead) force_flush();
  upstream_ = upstream;
  connection_ = std::make_shared<Connection>();
  connection_->streamed_end = align_down(flushed_end_, wal::kPageBytes);
  connection_->last_event = connection_->last_report = common_.now();
  common_.trace.note("server", "connected at", connection_->streamed_end.value, flushed_end_.value);
  confirmed_end_ = std::max(confirmed_end_, connection_->streamed_end);
  tell(node::UpstreamConnected{kSystem, TimelineId{1}, kSegmentSize, 150020, connection_->streamed_end, flushed_end_,
                               "", ahead, std::max(flushed_end_, kOrigin + ByteCount{stale_.size()})});
  tell(node::UpstreamSyncNames{true, "slipstream"});
  stream();
}

void Postgres::disconnect(bool tell_daemon) {
  if (!connection_) return;
  connection_->alive = false;
  connection_->late = random_.chance(0.5);
  connection_.reset();
  common_.trace.note("server", "lost the connection");
  if (tell_daemon && upstream_) {
    upstream_->events.push_back(node::UpstreamLost{});
    wake_daemon();
  }
  on_connection();
}

void Postgres::stream() {
  if (!connection_) return;
  while (connection_->streamed_end < flushed_end_) {
    const Lsn begin = connection_->streamed_end;
    const Lsn end =
        std::min({flushed_end_, begin + ByteCount{128 * 1024}, align_down(begin, 1u << 20) + ByteCount{1u << 20}});
    tell(node::UpstreamChunk{{begin, end}, xxh3_64(wal_.at({begin, end}))});
    connection_->streamed_end = end;
  }
  tell(node::UpstreamFlushed{flushed_end_});
}

void Postgres::tell(node::UpstreamEvent event) {
  if (!connection_) return;
  Connection& c = *connection_;
  c.last_event = std::max(
      c.last_event, common_.now() + random_.between(microseconds(10), microseconds(random_.chance(0.01) ? 3000 : 100)));
  common_.scheduler.at(c.last_event, [this, c = connection_, e = std::move(event)]() mutable {
    if (!c->alive || !upstream_) return;
    if (const auto* chunk = std::get_if<node::UpstreamChunk>(&e))
      confirmed_end_ = std::max(confirmed_end_, chunk->range.end);
    if (std::holds_alternative<node::UpstreamConnected>(e)) c->number = ++upstream_->connections_told;
    upstream_->events.push_back(std::move(e));
    wake_daemon();
  });
}

void Postgres::report(const node::Report& report) {
  if (!hears_reports()) return;
  Connection& c = *connection_;
  c.last_report =
      std::max(c.last_report,
               common_.now() + random_.between(microseconds(10), microseconds(random_.chance(0.15) ? 5000 : 200)));
  common_.scheduler.at(c.last_report, [this, c = connection_, report, life = memory_life_] {
    if (life != memory_life_ || (!c->alive && !c->late)) return;
    if (!c->alive) common_.counts.note(Fault::kLateReport);
    receive(report);
  });
}

void Postgres::receive(const node::Report& report) {
  sticky_.write = std::max(sticky_.write, report.write);
  sticky_.flush = std::max(sticky_.flush, report.flush);
  sticky_.apply = std::max(sticky_.apply, report.apply);
  on_reported(report);
  release_waiters();
}

}  // namespace slipstream::sim
