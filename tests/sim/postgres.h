#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ack/level.h"
#include "node/io.h"
#include "tests/sim/random.h"
#include "tests/sim/replica_disk.h"
#include "tests/sim/trace.h"
#include "wal/wal_writer.h"

namespace slipstream::sim {

inline constexpr SystemId kSystem{0x1122334455667788};

// The replication connection as the primary's daemon has it: events in, reports out.
class Upstream : public node::Upstream {
 public:
  bool next_event(node::UpstreamEvent& event) override;
  void report(const node::Report& report) override;
  void advance_slot(Lsn end) override { on_slot(end); }
  void reconnect() override { on_reconnect(); }

  bool has_lost() const {  // The loss of a connection, which the daemon has not taken yet.
    return std::ranges::any_of(events, [](const auto& e) { return std::holds_alternative<node::UpstreamLost>(e); });
  }

  std::deque<node::UpstreamEvent> events;
  std::function<void(const node::UpstreamEvent&)> on_event;
  std::function<void(const node::Report&)> on_report;
  std::function<void(Lsn)> on_slot;
  std::function<void()> on_reconnect;
  std::uint64_t connections_told = 0, connections_seen = 0;  // Put into `events`; taken out.

 private:
  node::Report last_;
};

// The primary's server, its clients and its WAL. Clients write records ahead of what is flushed; a commit returns once
// its own flush and the position at its level, which is never taken back while the server lives, cover it. A crash
// loses what was not flushed, and other records take its place.
class Postgres {
 public:
  Postgres(Common common, Random random);

  // What clients do from now on.
  struct Load {
    std::size_t clients = 4;
    std::vector<ack::Level> levels{ack::Level::kDurable};
    Duration think = milliseconds(5);
    double large = 0.01;  // A record of up to 200 KB instead of up to 600 bytes.
    bool waits = true;    // False: no policy, so commits return with their own flush.
  };
  void start(const Load& load);
  void stop_clients() { load_.clients = 0; }
  std::size_t waiting() const { return waiting_.size(); }

  bool running() const { return running_; }
  void crash();  // And starts again some time later.
  void stop_in_order();
  void start_again();
  bool gone = false;   // For good.
  bool ahead = false;  // The daemon ships what is written: it is told of that, and all is flushed when it connects.

  // The daemon's side.
  void connect(Upstream* upstream);
  void disconnect(bool tell);  // The connection is lost.
  bool connected() const { return connection_ != nullptr; }
  bool hears_reports() const { return connection_ && upstream_->connections_seen == connection_->number; }
  void daemon_died() { disconnect(false), upstream_ = nullptr; }
  void report(const node::Report& report);  // On its way to the server.
  void advance_slot(Lsn end) { slot_ = connection_ ? std::max(slot_, end) : slot_; }
  // The slot that init-standby makes for whoever joins. There it has the name alone; but by the time it is made the log
  // before is silent, and not named any more (app/joined_replicas.h). Here a directory is made anew in no time.
  void hold_for(const std::string& joining, LogId log_id, Lsn begin) { joining_[joining] = {log_id, begin}; }
  void drop_slot_of(const std::string& joined, LogId log_id) {
    if (const auto it = joining_.find(joined); running_ && it != joining_.end() && it->second.log_id == log_id)
      joining_.erase(it);
  }
  void checkpoint();  // Removes segments that no slot holds.

  std::span<std::byte> bytes(LsnRange range) { return wal_.at(range); }
  // What lies in the files where the WAL ended once and was lost; zeros elsewhere.
  void copy_stale(LsnRange range, std::span<std::byte> into) const;
  std::uint64_t losses() const { return losses_; }
  Lsn end() const { return wal_.end(); }
  Lsn flushed_end() const { return flushed_end_; }
  Lsn slot() const { return slot_; }
  Lsn kept_from() const { return kept_from_; }
  Lsn confirmed_end() const { return confirmed_end_; }  // The most that a daemon was told of this server's stream.
  // The end of the last complete record at or below `at`.
  Lsn record_floor(Lsn at) const;
  // The same for a log that begins at `log_begin`: what remains there of an earlier record counts with the next one.
  Lsn record_floor(Lsn at, Lsn log_begin) const;

  // Whether the checksum of a record that begins in this log covers the byte: not so in page headers, between records,
  // in the padding of one.
  bool is_covered(Lsn at, Lsn log_begin) const;

  std::function<void()> at_next_commit;  // Happens once, before its flush, or when a flush ends within a record.
  std::function<void()> wake_daemon;
  std::function<void(const node::Report&)> on_reported;  // It has arrived.
  std::function<void(Lsn, ack::Level)> on_commit;        // A client was told.
  std::function<void()> on_connection;
  std::function<void()> on_written;
  std::function<void(LsnRange)> on_lost;  // Unflushed WAL.

 private:
  struct Waiting {
    std::size_t client;
    Lsn end;
    ack::Level level;
  };
  struct Connection {
    bool alive = true;
    std::uint64_t number = UINT64_MAX;  // As the daemon counts them.
    bool late = false;                  // What was on its way when it was lost arrives still.
    Lsn streamed_end{};
    Instant last_event{};
    Instant last_report{};
  };
  Lsn write(std::size_t payload_bytes);
  void think(std::size_t client);
  void begin_commit(std::size_t client);
  void want_flush();
  void flush_to(Lsn end);
  void release_waiters();
  void stream();
  void tell(node::UpstreamEvent event);
  void receive(const node::Report& report);
  void expect_same_lengths(Lsn lost_from);
  void lose_unflushed();
  void force_flush();

  Common common_;
  Random random_;
  Random written_random_;  // Its own, so that the others' draws stay what they were.
  wal::WalWriter wal_{kOrigin, kSegmentSize, kSystem};
  std::vector<std::pair<Lsn, Lsn>> records_;  // (end, begin), complete ones.
  std::vector<std::size_t> payloads_;         // The same records'.
  Lsn flushed_end_ = kOrigin;
  Lsn confirmed_end_ = kOrigin;
  std::vector<std::byte> stale_;          // From kOrigin on.
  std::deque<std::size_t> same_lengths_;  // Of the next records, as those that were lost.
  Lsn slot_ = kOrigin, kept_from_ = kOrigin;
  struct Joining {
    LogId log_id;
    Lsn begin;
  };
  std::map<std::string, Joining> joining_;
  node::Report sticky_;
  bool running_ = true;
  bool flushing_ = false;
  std::uint64_t losses_ = 0;
  std::uint64_t life_ = 0;         // Of its clients.
  std::uint64_t memory_life_ = 0;  // Of its shared memory.
  Load load_;
  std::vector<Waiting> waiting_;
  Upstream* upstream_ = nullptr;
  std::shared_ptr<Connection> connection_;
};

}  // namespace slipstream::sim
