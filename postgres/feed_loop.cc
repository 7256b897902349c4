#include "postgres/feed_loop.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

namespace slipstream::postgres {
namespace {

constexpr std::size_t kReadersMax = 32;      // Beyond, a connection is told that there are too many,
constexpr std::size_t kConnectionsMax = 64;  // and here it is closed at once.
constexpr Duration kLastWords = seconds(1);  // How long a client may take to read why it was disconnected.
constexpr Duration kViewAge = milliseconds(100);
constexpr Duration kRetryEvents = milliseconds(2);
// While nobody waits for what the standby applies, its replies (two or three a piece) are read together a little later,
// and wake the data thread only if that did not look by itself: commits would pay for those wake-ups.
constexpr Duration kReplyUnread = microseconds(300), kReplyHeld = milliseconds(1);
constexpr Duration kRepliesAfterPiece = milliseconds(2);
constexpr ByteCount kGatherMax{1 << 20};  // So much goes out at once: while it is still in memory.
constexpr int kPiecesPerTurn = 8;         // A reader's share of a turn while others wait.

Instant monotonic() {
  timespec at{};
  ::clock_gettime(CLOCK_MONOTONIC, &at);
  return Instant{at.tv_sec * 1'000'000'000 + at.tv_nsec};
}

}  // namespace

FeedServer::Loop::Connection::~Connection() { ::close(fd); }

FeedServer::Loop::Loop(FeedOptions options, FeedSocket socket, std::vector<uid_t> allowed, int event)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      allowed_(std::move(allowed)),
      event_(event),
      log_(options_.wal_directory, wal::SegmentLayout(options_.segment_size), options_.log_begin, options_.recent),
      context_{options_.system, options_.server_version_num, options_.standby_name, options_.receive_timeout, &log_,
               now_us},
      log_begin_(options_.log_begin.value) {
  last_released_.timeline = options_.timeline;
  released_.store(last_released_);
}

FeedServer::Loop::~Loop() {
  stop();
  ::close(event_);
}

void FeedServer::Loop::start() {
  thread_ = std::thread([this] { run(); });
}

void FeedServer::Loop::stop() {
  if (!thread_.joinable()) return;
  stop_ = true;
  ring_bell();
  thread_.join();
}

// ---- From other threads

void FeedServer::Loop::ring_bell() {
  const std::uint64_t one = 1;
  (void)!::write(event_, &one, sizeof one);
}

void FeedServer::Loop::release(const node::Release& release) {
  if (release == last_released_) return;
  const bool more = release.fed_end != last_released_.fed_end || release.timeline != last_released_.timeline;
  last_released_ = release;
  released_.store(release);
  // The primary's end alone is told along with whatever is sent next. A thread that is awake looks again before it
  // sleeps; one that gathers looks by itself, soon enough for what nobody waits for.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Sleep sleep = sleep_.load();
  const bool much = release.fed_end >= rung_at_ + kGatherMax;
  const bool wanted =
      sleep == Sleep::kUntilBell || (sleep == Sleep::kGathering && (much || release.apply_awaited_end > applied_seen_));
  if (!more || !wanted) return;
  if (much) rung_at_ = release.fed_end;
  if (sleep_.exchange(Sleep::kAwake) != Sleep::kAwake) ring_bell();
}

bool FeedServer::Loop::next_event(node::StandbyEvent& event) {
  if (!events_.pop(event)) return false;
  if (std::holds_alternative<node::StandbyConnected>(event)) applied_seen_ = {};
  if (const auto* reply = std::get_if<node::StandbyReply>(&event)) applied_seen_ = reply->apply;
  return true;
}

void FeedServer::Loop::set_log_begin(Lsn begin) { log_begin_ = begin.value; }

FeedView FeedServer::Loop::view() const {
  const std::lock_guard lock(view_mutex_);
  return view_;
}

// ---- The loop

void FeedServer::Loop::run() {
  pthread_setname_np(pthread_self(), "feed");
  while (!stop_) {
    const Instant now = monotonic();
    turn(now);
    wait(now);
  }
  say_goodbye();
}

void FeedServer::Loop::turn(Instant now) {
  // Once, so that wait() knows whether a newer one came meanwhile.
  newest_ = released_.load();
  const bool more = newest_.fed_end != release_.fed_end || newest_.timeline != release_.timeline;
  if (!more || is_due(newest_) || now >= fed_at_ + options_.gather) {
    if (more) fed_at_ = now;
    release_ = newest_;
  }
  if (log_.log_begin().value != log_begin_) log_.set_log_begin(Lsn{log_begin_});
  for (std::size_t i = 0; i + 2 < polled_.size(); ++i)
    if (polled_[i + 2].revents != 0 || (connections_[i].get() == standby_ && now >= replies_due_))
      read_from(*connections_[i], now);
  if (!polled_.empty() && polled_[0].revents != 0) accept_all(now);
  for (const auto& connection : connections_) serve(*connection, now);
  follow_standby();
  std::erase_if(connections_, [&](const auto& connection) { return over(*connection, now); });
  pass_events(now);
  publish(now);
}

void FeedServer::Loop::accept_all(Instant now) {
  for (int fd = socket_.accept(); fd >= 0; fd = socket_.accept()) {
    if (connections_.size() >= kConnectionsMax) {
      ::close(fd);
      continue;
    }
    const SocketPeer peer = peer_of(fd);
    std::optional<FeedError> refusal;
    if (!peer.known || std::ranges::find(allowed_, peer.uid) == allowed_.end())
      refusal = FeedError{
          "28000", fmt::format("operating-system user \"{}\" may not read this replica's log", user_name(peer.uid)), "",
          "Add it to replica.feed.allow_users."};
    else if (connections_.size() >= kReadersMax)
      refusal = FeedError{"53300", "sorry, too many clients already"};
    connections_.push_back(
        std::make_unique<Connection>(fd, FeedSession(context_, next_pid_++, std::move(refusal), now)));
  }
}

void FeedServer::Loop::read_from(Connection& connection, Instant now) {
  std::byte buffer[16384];
  const ssize_t got = ::recv(connection.fd, buffer, sizeof buffer, 0);
  if (got > 0) {
    connection.read_at = now;  // Only then: where nothing comes, nobody looks again before something does.
    connection.session.on_bytes(std::span(buffer).first(static_cast<std::size_t>(got)), release_, now);
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    connection.broken = true;
  }
}

void FeedServer::Loop::write_to(Connection& connection) {
  while (!connection.broken && !connection.session.output().empty()) {
    const auto bytes = connection.session.output();
    const ssize_t put = ::send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;
    if (put < 0)
      connection.broken = true;
    else
      connection.session.on_written(static_cast<std::size_t>(put));
  }
}

void FeedServer::Loop::serve(Connection& connection, Instant now) {
  connection.busy = false;
  for (int i = 0; i < kPiecesPerTurn && !connection.broken; ++i) {
    connection.session.advance(release_, now);
    if (connection.session.output().empty()) return;
    write_to(connection);
    if (!connection.session.output().empty()) return;
  }
  connection.busy = !connection.broken;
}

bool FeedServer::Loop::over(Connection& connection, Instant now) const {
  if (connection.broken || connection.session.abandoned()) return true;
  if (!connection.session.ended()) return false;
  if (!connection.ended_at) connection.ended_at = now;
  return connection.session.output().empty() || now >= *connection.ended_at + kLastWords;
}

void FeedServer::Loop::wait(Instant now) {
  Instant until = now + seconds(1);
  polled_.assign({{socket_.fd(), POLLIN, 0}, {event_, POLLIN, 0}});
  for (const auto& connection : connections_) {
    const FeedSession& session = connection->session;
    const Instant readable =
        std::max(connection->read_at + kReplyUnread, fed_at_ + std::min(options_.gather, kRepliesAfterPiece));
    const bool unread = connection.get() == standby_ && !awaited(newest_) && now < readable;
    // By then a piece may go out, and put it off again: they are read without being asked for.
    if (connection.get() == standby_) replies_due_ = unread ? readable : kNever;
    if (unread) until = std::min(until, readable);
    const int wanted = (session.wants_input() && !unread ? POLLIN : 0) | (session.output().empty() ? 0 : POLLOUT);
    polled_.push_back({connection->fd, static_cast<short>(wanted), 0});
    until = connection->busy ? now : std::min(until, session.deadline());
  }
  if (!waiting_.empty()) until = std::min(until, now + kRetryEvents);
  until = std::min(until, wake_at_);
  if (view_stale_) until = std::min(until, published_at_ + kViewAge);
  const bool gathers = now < fed_at_ + options_.gather && !awaited(newest_);
  if (gathers) until = std::min(until, fed_at_ + options_.gather);
  sleep_ = gathers ? Sleep::kGathering : Sleep::kUntilBell;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const node::Release now_released = released_.load();
  const bool missed = stop_ || (now_released != newest_ && (!gathers || is_due(now_released)));
  const std::int64_t left = missed ? 0 : std::max<std::int64_t>(until.ns - now.ns, 0);
  timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
  const int ready = ::ppoll(polled_.data(), polled_.size(), &timeout, nullptr);
  sleep_ = Sleep::kAwake;
  if (ready <= 0)
    for (pollfd& each : polled_) each.revents = 0;
  if (polled_[1].revents != 0) {
    std::uint64_t count = 0;
    (void)!::read(event_, &count, sizeof count);
  }
}

// What still fits into the sockets is said; nobody is waited for.
void FeedServer::Loop::say_goodbye() {
  for (const auto& connection : connections_) {
    connection->session.say_goodbye();
    write_to(*connection);
    ::shutdown(connection->fd, SHUT_WR);
    connection->broken = true;
  }
  follow_standby();
  connections_.clear();
  polled_.clear();
  urgent_ = true;
  pass_events(monotonic());
}

// ---- The standby, for the data thread

void FeedServer::Loop::follow_standby() {
  const auto streams = [](const Connection& c) { return !c.broken && c.session.streaming(); };
  if (standby_ && standby_->session.stream() == standby_stream_)
    tell_reply(standby_->session), tell_feedback(standby_->session);
  if (standby_ && (!streams(*standby_) || standby_->session.stream() != standby_stream_)) {
    tell(node::StandbyLost{});
    standby_ = nullptr;
  }
  if (!standby_) {
    const auto found =
        std::ranges::find_if(connections_, [&](const auto& c) { return streams(*c) && c->session.may_be_standby(); });
    if (found == connections_.end()) return;
    standby_ = found->get();
    standby_stream_ = standby_->session.stream();
    standby_status_.reset();
    standby_feedback_ = {};
    refused_start_.clear();
    tell(node::StandbyConnected{standby_->session.start(), standby_->session.application_name()});
    tell_reply(standby_->session);
    tell_feedback(standby_->session);
  }
}

// By somebody, and not told yet. Of a standby that has just come the data thread wants to hear soon, too.
bool FeedServer::Loop::awaited(const node::Release& release) const {
  return !standby_status_ || standby_status_->apply < release.apply_awaited_end;
}

// Goes out although the last piece went out just now.
bool FeedServer::Loop::is_due(const node::Release& release) const {
  return awaited(release) || release.fed_end >= release_.fed_end + kGatherMax;
}

void FeedServer::Loop::tell_reply(const FeedSession& session) {
  const auto& status = session.status();
  standby_needs_ = session.needed_from();
  if (!status) return;
  const bool same = standby_status_ && standby_status_->write == status->write &&
                    standby_status_->flush == status->flush && standby_status_->apply == status->apply;
  if (same) return;
  if (awaited(newest_)) urgent_ = true;
  standby_status_ = status;
  tell(node::StandbyReply{status->write, status->flush, status->apply});
}

void FeedServer::Loop::tell_feedback(const FeedSession& session) {
  const auto& said = session.feedback();
  const auto whole = [](std::uint32_t epoch, std::uint32_t xid) {
    return xid == 0 ? 0 : std::uint64_t{epoch} << 32 | xid;
  };
  node::StandbyFeedback feedback;
  if (said) feedback = {whole(said->xmin_epoch, said->xmin), whole(said->catalog_xmin_epoch, said->catalog_xmin)};
  if (feedback == standby_feedback_) return;
  standby_feedback_ = feedback;
  tell(feedback);
}

void FeedServer::Loop::tell(node::StandbyEvent event) {
  view_stale_ = true;
  if (!std::holds_alternative<node::StandbyReply>(event)) urgent_ = true;
  // While the data thread does not take them, only the news are kept: the latest reply and feedback, and nobody who
  // came and went meanwhile.
  const auto replaceable = [](const node::StandbyEvent& each) {
    return std::holds_alternative<node::StandbyReply>(each) || std::holds_alternative<node::StandbyFeedback>(each);
  };
  if (replaceable(event)) {
    auto at = waiting_.end();
    while (at != waiting_.begin() && replaceable(*std::prev(at)) && std::prev(at)->index() != event.index()) --at;
    if (at != waiting_.begin() && std::prev(at)->index() == event.index()) waiting_.erase(std::prev(at));
  }
  if (std::holds_alternative<node::StandbyLost>(event)) {
    const auto came = std::ranges::find_if(
        waiting_, [](const auto& each) { return std::holds_alternative<node::StandbyConnected>(each); });
    const bool unknown = came != waiting_.end();
    waiting_.erase(came, waiting_.end());
    if (unknown) return;
  }
  waiting_.push_back(std::move(event));
}

void FeedServer::Loop::pass_events(Instant now) {
  while (!waiting_.empty() && events_.push(std::move(waiting_.front()))) {
    waiting_.pop_front();
    if (wake_at_ == kNever) wake_at_ = now + std::clamp(options_.gather, kReplyHeld, kRepliesAfterPiece);
  }
  if (wake_at_ == kNever || (!urgent_ && now < wake_at_)) return;
  if (options_.wake && (urgent_ || !events_.all_taken())) options_.wake();
  wake_at_ = kNever;
  urgent_ = !waiting_.empty();
}

void FeedServer::Loop::publish(Instant now) {
  Lsn needed = standby_needs_;
  bool streaming = false;
  for (const auto& connection : connections_) {
    if (!standby_ && !connection->session.refused_start().empty() &&
        connection->session.refused_start() != refused_start_) {
      refused_start_ = connection->session.refused_start();
      view_stale_ = true;
    }
    if (!connection->session.streaming()) continue;
    streaming = true;
    needed = std::min(needed, connection->session.needed_from());
  }
  needed_from_ = needed.value;
  view_stale_ = view_stale_ || streaming;
  if (!view_stale_ || now < published_at_ + kViewAge) return;
  FeedView view;
  for (const auto& connection : connections_) {
    const FeedSession& session = connection->session;
    if (session.streaming())
      view.readers.push_back({session.application_name(), connection.get() == standby_, session.start(),
                              session.sent_end(), session.status()});
  }
  if (standby_) view.feedback = standby_->session.feedback();
  view.refused_start = refused_start_;
  published_at_ = now;
  view_stale_ = false;
  const std::lock_guard lock(view_mutex_);
  view_ = std::move(view);
}

}  // namespace slipstream::postgres
