#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "postgres/feed.h"
#include "postgres/wire.h"

namespace slipstream::postgres {

// One connection to the feed: start-up, commands, streaming. Driven by the server's poll loop; sockets are non-blocking.
class FeedServer::Client {
 public:
  using Clock = std::chrono::steady_clock;

  Client(FeedServer& server, int fd, bool allowed);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int fd() const { return fd_; }
  bool wants_write() const { return out_at_ < out_.bytes().size(); }
  bool ended() const { return ended_; }
  bool streaming() const { return state_ == State::kStreaming; }
  bool is_standby() const { return streaming() && standby_; }
  Lsn needed_from() const;

  void on_readable();
  void on_turn(const node::Release& release, Clock::time_point now);  // Streams what may be streamed, sends keepalives, writes.
  int wait_ms(Clock::time_point now) const;                           // Until a keepalive is due.

 private:
  enum class State : std::uint8_t { kStartup, kCommands, kStreaming, kClosing };

  bool take_startup();
  bool take_message();
  void on_startup(std::uint32_t code, std::span<const std::byte> body);
  void on_query(std::string_view query);
  void on_start(const ReplicationCommand& command);
  void on_copy_data(std::span<const std::byte> message);
  void answer_row(std::span<const Messages::Column> columns, std::span<const std::optional<std::string>> values, std::string_view tag);
  void answer_error(std::string_view code, std::string_view message, std::string_view hint = "");
  void fatal(std::string_view code, std::string_view message, std::string_view hint = "");
  void stream(const node::Release& release);
  std::uint64_t options_segment() const;
  std::size_t read_wal(Lsn at, std::span<std::byte> into, TimelineId timeline);
  void flush();
  void end();

  FeedServer& server_;
  int fd_;
  bool allowed_;
  bool ended_ = false;
  State state_ = State::kStartup;
  std::vector<std::byte> in_;
  Messages out_;
  std::size_t out_at_ = 0;
  std::string application_name_;
  bool standby_ = false;
  Lsn sent_end_;
  node::Release release_;
  StandbyStatus status_{};
  Clock::time_point keepalive_at_{};
  int asks_ = 0;  // Keepalives that asked for a reply since the standby's last news.
  int segment_fd_ = -1;
  std::uint64_t segment_number_ = 0;
};

}  // namespace slipstream::postgres
