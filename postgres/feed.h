#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "base/recent_bytes.h"
#include "base/time.h"
#include "node/io.h"
#include "postgres/wire.h"

namespace slipstream::postgres {

struct FeedOptions {
  std::filesystem::path
      socket_directory;  // The socket is .s.PGSQL.PORT in it, so that  host=DIR port=PORT  leads here.
  std::uint16_t port = 5433;
  std::vector<std::string> allow_users;  // Operating-system users, by the peer's credentials.
  std::filesystem::path wal_directory;   // The replica's own segments and histories: the only source.
  ByteCount segment_size;
  SystemId system;
  TimelineId timeline;  // Until the first release.
  Lsn log_begin;
  std::uint32_t server_version_num = 150000;  // The primary's.
  std::function<void()> wake;                 // Called when an event waits for the data thread.
  std::string
      standby_name;  // The application_name that is the standby; empty: any but pg_receivewal and pg_basebackup.
  const RecentBytes* recent =
      nullptr;  // The newest part of the log in memory, by those who write it; it outlives the feed.
  Duration receive_timeout =
      seconds(60);  // A reader that does not answer for so long is disconnected (wal_sender_timeout).
  Duration gather = milliseconds(10);  // While nobody waits for what the standby applies, pieces go out that far apart.
};

// What people want to know of a feed.
struct FeedView {
  struct Reader {
    std::string application_name;
    bool standby = false;
    Lsn start, sent_end;
    std::optional<StandbyStatus> status;
  };
  std::vector<Reader> readers;                 // Those that stream.
  std::optional<HotStandbyFeedback> feedback;  // The standby's: the xmins that vacuum on the primary should respect.
  std::string refused_start;  // The last request for WAL from before the log; empty again once the standby streams.
};

// PostgreSQL's replication protocol, server side, on a unix socket: what an unmodified walreceiver, pg_receivewal or
// psql speaks to. Guarantees: (1) Streams the replica's segments up to the latest released fed_end, and not a byte
// more. A release goes out at once if somebody waits for its being applied, if it is much, or if the last one is
// `gather` ago, else then.
//   (2) release() and next_event() never wait, whatever the clients do; no client waits for another.
//   (3) Per standby: StandbyConnected, then its replies and feedback in order (the latest where they come faster than
//   they are taken), then StandbyLost. (4) Bytes from clients are never trusted: a malformed message ends that
//   connection, with an ErrorResponse.
// Many may read; one of them is the standby. When it leaves, the next eligible one, if any, is.
// Threading: release() and next_event() belong to the data thread; the rest to anyone. One thread of its own serves all
// connections.
class FeedServer : public node::Standby {
 public:
  // Errors: kConfiguration (socket, users).
  static std::expected<std::unique_ptr<FeedServer>, Error> start(FeedOptions options);
  ~FeedServer() override;  // stop().

  bool next_event(node::StandbyEvent& event) override;
  void release(const node::Release& release) override;

  // Takes leave of everyone as a stopping PostgreSQL does, and ends the thread. Once.
  void stop();

  // The least position that a reader may still ask for; the standby's last one also while it is away. UINT64_MAX:
  // nobody's.
  Lsn needed_from() const;
  void set_log_begin(Lsn begin);  // Segments before it were, or are about to be, removed.
  FeedView view() const;          // At most 100 ms old.

 private:
  class Loop;
  explicit FeedServer(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

}  // namespace slipstream::postgres
