#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/spsc_ring.h"
#include "node/io.h"
#include "wal/segment.h"

namespace slipstream::postgres {

struct FeedOptions {
  std::filesystem::path socket_directory;  // The socket is .s.PGSQL.PORT in it, so that  host=DIR port=PORT  leads here.
  std::uint16_t port = 5433;
  std::vector<std::string> allow_users;    // Operating-system users, by the peer's credentials.
  std::filesystem::path wal_directory;     // The replica's own segments: the only source.
  ByteCount segment_size;
  SystemId system;
  TimelineId timeline;
  Lsn log_begin;
  std::uint32_t server_version_num = 150000;
  std::function<void()> wake;              // Called when an event waits for the data thread.
};

// PostgreSQL's replication protocol, server side, on a unix socket: what an unmodified walreceiver, pg_receivewal or psql speaks to. Streams the replica's segments up to what was
// released and not a byte more, in messages that end at page boundaries or at the released end (a record's end).
// One thread serves all connections without waiting on any. The standby is the one client that is not pg_receivewal; further readers may come and go.
// Bytes from clients are never trusted: a malformed message ends that connection with an ErrorResponse.
class FeedServer : public node::Standby {
 public:
  // Errors: kConfiguration (socket, users).
  static std::expected<std::unique_ptr<FeedServer>, Error> start(FeedOptions options);
  ~FeedServer() override;

  bool next_event(node::StandbyEvent& event) override;
  void release(const node::Release& release) override;

  // The least position that a connected reader still needs; UINT64_MAX when there is none. Any thread.
  Lsn needed_from() const { return Lsn{needed_from_.load()}; }
  void set_log_begin(Lsn begin) { log_begin_ = begin.value; }

 private:
  class Client;
  explicit FeedServer(FeedOptions options);
  void serve();
  void accept_client();
  node::Release released() const;
  void push(node::StandbyEvent event);

  FeedOptions options_;
  std::vector<std::uint32_t> allowed_uids_;
  int listener_ = -1;
  int event_ = -1;  // Wakes the thread: a release, or the end.
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  node::Release released_{};       // Guarded by mutex_.
  node::Release last_released_{};  // Data thread's.
  std::atomic<std::uint64_t> needed_from_{UINT64_MAX};
  std::atomic<std::uint64_t> log_begin_{0};
  SpscRing<node::StandbyEvent> events_{1024};
  std::vector<std::unique_ptr<Client>> clients_;
  std::thread thread_;
};

}  // namespace slipstream::postgres
