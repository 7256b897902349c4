#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "postgres/upstream.h"
#include "postgres/wire.h"

namespace slipstream::postgres {

// One replication connection, from its making to its loss.
class PostgresUpstream::Stream {
 public:
  explicit Stream(PostgresUpstream& owner) : owner_(owner) {}

  std::expected<void, Error> open();
  int socket() const;  // Of an open one.

  Error run();  // Until it is lost; says why.

  // Without run(), the data thread calls these; neither waits. What has come is taken, not too much at once; an error:
  // it is lost. `more`: there may be more at once.
  std::optional<Error> listen(bool& more);
  std::optional<Error> speak();  // Sends what is due.
  bool is_asked() const { return reply_wanted_; }
  bool full() const;  // Nothing is taken before some of its events were.

 private:
  using Clock = std::chrono::steady_clock;

  std::expected<std::vector<std::string>, Error> row(const std::string& command, std::size_t columns);
  std::expected<void, Error> identify();
  std::expected<void, Error> refuse_standby();
  std::expected<void, Error> flush_everything();
  std::expected<void, Error> start();

  std::optional<Error> drain(std::size_t messages_max, bool& more);
  std::optional<Error> on_message(std::span<const std::byte> message);
  void on_wal(const XLogData& data);
  void on_keepalive(const Keepalive& keepalive);
  std::optional<Error> send_report();
  std::optional<Error> send_feedback();
  std::optional<Error> look_at_stop();
  std::optional<Error> flush();
  std::optional<Error> wait();
  bool stopping() const { return stopping_ || owner_.server_stops_; }
  Error lost(const std::string& what) const { return connection_error(what, where_); }

  PostgresUpstream& owner_;
  std::optional<Connection> connection_;
  std::string where_ = "replication connection";
  node::UpstreamConnected facts_;
  Lsn stream_end_;
  Clock::time_point heard_at_{};  // When the server last said anything.
  bool unsent_ = false;           // Of what was said.

  node::Report looked_at_{};  // The latest report that was thought about.
  node::Report sent_{};
  Clock::time_point sent_at_{};
  Clock::time_point moved_at_{};  // When sent_ last changed.
  Clock::time_point answered_at_{};
  node::StandbyFeedback feedback_sent_{};  // PostgreSQL takes a new connection to need none.
  Clock::time_point feedback_sent_at_{};
  bool reply_wanted_ = false;

  // PostgreSQL asks at once again, at one position, when it only waits to be able to stop.
  int requests_ = 0;
  Lsn requests_at_{};
  bool stopping_ = false;
  std::optional<Clock::time_point> stop_seen_;
};

}  // namespace slipstream::postgres
