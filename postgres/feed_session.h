#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/lsn.h"
#include "base/time.h"
#include "node/io.h"
#include "postgres/feed_command.h"
#include "postgres/feed_log.h"
#include "postgres/feed_messages.h"
#include "postgres/wire.h"

namespace slipstream::postgres {

// What all sessions of one feed share. Owned by the server, outlives them.
struct FeedContext {
  SystemId system;
  std::uint32_t server_version_num = 0;
  std::string standby_name;  // The application_name that is the standby; empty: any but PostgreSQL's tools.
  Duration receive_timeout;  // A streaming client that says nothing for so long, though asked, is gone.
  FeedSource* source = nullptr;
  std::function<std::int64_t()> wall_us;  // PostgreSQL's clock; told to clients, used for nothing.
};

// One connection to the feed: PostgreSQL's walsender as a machine. Bytes come in, bytes go out, time is an argument.
// Guarantees: (1) No byte of WAL at or past the released fed_end is ever in output(); what is sent is contiguous from
// the start.
//   (2) A message ends at a page boundary, a segment's or timeline's end, or at fed_end; walEnd is never less than what
//   was sent. (3) Any input whatsoever leads to an answer, an ErrorResponse, or the end of this session, and to a
//   bounded amount of memory. (4) output() holds at most about 400 KiB; more is built as it is taken.
// A start ahead of fed_end is not refused, as a walsender would: a standby may hold more than a replica that lost its
// newest bytes, and gets what follows once it is there. Threading: one thread.
class FeedSession {
 public:
  // `refusal`: why this peer gets no session; it is told once it has introduced itself.
  FeedSession(const FeedContext& context, std::uint32_t pid, std::optional<FeedError> refusal, Instant now);

  void on_bytes(std::span<const std::byte> bytes, const node::Release& release, Instant now);
  void advance(const node::Release& release,
               Instant now);  // Streams, asks, answers what waits. After every event and at deadline().
  void say_goodbye();         // The server stops.
  Instant deadline() const;

  std::span<const std::byte> output() const { return out_.pending(); }
  void on_written(std::size_t bytes) { out_.take(bytes); }
  bool wants_input() const;
  bool ended() const {
    return state_ == State::kEnded;
  }  // Close it when output() is written; at once when abandoned().
  bool abandoned() const { return abandoned_; }

  const std::string& application_name() const { return application_name_; }
  bool streaming() const { return state_ == State::kStreaming; }
  std::uint64_t stream() const {
    return stream_;
  }  // Which of this session's streams it is, or was; 0 before the first.
  bool may_be_standby() const { return may_be_standby_; }
  Lsn start() const { return start_; }
  Lsn sent_end() const { return sent_end_; }
  const std::optional<StandbyStatus>& status() const { return status_; }  // Of stream(), also when it has ended.
  const std::optional<HotStandbyFeedback>& feedback() const { return feedback_; }
  Lsn needed_from() const;  // What this stream may ask for again. While streaming.
  const std::string& refused_start() const { return refused_start_; }  // The last START below the log, for people.

 private:
  enum class State : std::uint8_t { kStartup, kCommands, kStreaming, kEnded };

  bool may_answer() const;
  void process(const node::Release& release, Instant now);
  bool take_startup(std::span<const std::byte>& rest);
  bool take_message(std::span<const std::byte>& rest, const node::Release& release, Instant now);
  void on_startup(std::span<const std::byte> packet);
  void greet(std::span<const std::string> unknown_options, std::uint32_t minor);
  void on_message(char tag, std::span<const std::byte> body, const node::Release& release, Instant now);
  void on_idle_message(char tag, std::span<const std::byte> body, const node::Release& release, Instant now);
  void on_streaming_message(char tag, std::span<const std::byte> body, const node::Release& release, Instant now);
  void on_copy_data(std::span<const std::byte> message, const node::Release& release, Instant now);

  void on_query(std::string_view text, const node::Release& release, Instant now);
  void on_start(const StartStreaming& command, const node::Release& release, Instant now);
  void answer(std::span<const BackendMessages::Column> columns, std::span<const BackendMessages::Value> values,
              std::string_view tag);
  void answer(const FeedError& error);
  void fatal(const FeedError& error);

  bool follow_timeline(const node::Release& release);
  void send_wal(const node::Release& release, Instant now);
  bool send_piece(const wal::TimelineHistory& history, Lsn limit, const node::Release& release);
  Lsn piece_end(const wal::TimelineHistory& history, Lsn limit) const;
  void stop_on(FeedRead problem, TimelineId timeline);
  void finish_timeline();
  void end_stream();
  void keep_alive(const node::Release& release, Instant now);
  void send_keepalive(const node::Release& release, bool reply_requested, Instant now);
  bool behind() const;

  const FeedContext& context_;
  std::uint32_t pid_;
  std::optional<FeedError> refusal_;
  State state_ = State::kStartup;
  bool abandoned_ = false;
  bool skipping_ = false;  // To the next Sync, after a message of the extended protocol.
  int encryption_requests_ = 0;
  std::vector<std::byte> in_;
  BackendMessages out_;
  std::string application_name_;
  std::string refused_start_;
  Instant heard_at_;

  // The stream.
  std::uint64_t stream_ = 0;
  bool may_be_standby_ = false;
  Lsn start_, sent_end_;
  TimelineId timeline_;
  std::optional<wal::TimelineHistory::Ancestor>
      switch_;  // The stream's end when its timeline has ended: who follows, and from where.
  bool done_sending_ = false, done_receiving_ = false;
  std::optional<StandbyStatus> status_;
  std::optional<HotStandbyFeedback> feedback_;
  Instant keepalive_at_ = kNever;  // The next one that nothing else is the reason for.
  Instant ask_at_ = kNever;        // When the standby is asked how far its replay is.
  std::size_t asks_ = 0;           // Since its replay last moved.
};

}  // namespace slipstream::postgres
