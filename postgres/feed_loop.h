#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/spsc_ring.h"
#include "postgres/feed.h"
#include "postgres/feed_log.h"
#include "postgres/feed_release.h"
#include "postgres/feed_session.h"
#include "postgres/feed_socket.h"

namespace slipstream::postgres {

// The feed's thread: polls the listener and all connections, moves bytes between them and their sessions, and tells the
// data thread about the standby. Sockets do not block; the disk may, and then readers wait, but never the data thread.
class FeedServer::Loop {
 public:
  Loop(FeedOptions options, FeedSocket socket, std::vector<uid_t> allowed, int event);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start();
  void stop();
  void release(const node::Release& release);
  bool next_event(node::StandbyEvent& event);
  Lsn needed_from() const { return Lsn{needed_from_.load()}; }
  void set_log_begin(Lsn begin);
  FeedView view() const;

 private:
  struct Connection {
    Connection(int socket, FeedSession made) : fd(socket), session(std::move(made)) {}
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    int fd;
    Instant read_at{};
    FeedSession session;
    bool broken = false;              // The client is gone.
    bool busy = false;                // Has more to send at once.
    std::optional<Instant> ended_at;  // When the session ended; its last words are still to be taken.
  };

  void run();
  void turn(Instant now);
  void accept_all(Instant now);
  void read_from(Connection& connection, Instant now);
  void write_to(Connection& connection);
  void serve(Connection& connection, Instant now);
  bool over(Connection& connection, Instant now) const;
  void wait(Instant now);
  void say_goodbye();

  void follow_standby();
  bool awaited(const node::Release& release) const;
  bool is_due(const node::Release& release) const;
  void tell_reply(const FeedSession& session);
  void tell_feedback(const FeedSession& session);
  void tell(node::StandbyEvent event);
  void pass_events(Instant now);
  void publish(Instant now);
  void ring_bell();

  FeedOptions options_;
  FeedSocket socket_;
  std::vector<uid_t> allowed_;
  int event_;  // Wakes poll().
  FeedLog log_;
  FeedContext context_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<pollfd> polled_;
  node::Release newest_{};   // As of this turn.
  node::Release release_{};  // The same, or an earlier one while what comes is gathered.
  Instant fed_at_{};         // When that moved last.
  std::uint32_t next_pid_ = 1;

  // The standby, as told to the data thread.
  Connection* standby_ = nullptr;
  std::uint64_t standby_stream_ = 0;
  Instant replies_due_ = kNever;
  std::optional<StandbyStatus> standby_status_;
  node::StandbyFeedback standby_feedback_;
  Lsn standby_needs_{UINT64_MAX};
  std::deque<node::StandbyEvent> waiting_;  // For room in events_.
  bool urgent_ = false;                     // Something was told that the data thread should see at once,
  Instant wake_at_ = kNever;                // and the rest then.
  std::string refused_start_;
  Instant published_at_{};
  bool view_stale_ = true;

  // Between threads.
  LatestRelease released_;
  node::Release last_released_{};  // The data thread's,
  Lsn applied_seen_{};             // what it knows to be applied,
  Lsn rung_at_{};                  // and where it last rang because much was gathered.
  enum class Sleep : std::uint8_t { kAwake, kGathering /* the bell is for what is due */, kUntilBell };
  std::atomic<Sleep> sleep_{Sleep::kAwake};
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> log_begin_;
  std::atomic<std::uint64_t> needed_from_{UINT64_MAX};
  SpscRing<node::StandbyEvent> events_{1024};
  mutable std::mutex view_mutex_;
  FeedView view_;  // Guarded by view_mutex_.
  std::thread thread_;
};

}  // namespace slipstream::postgres
