#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "node/io.h"
#include "node/ship_log.h"
#include "node/written_reader.h"

namespace slipstream::node {

// Turns PostgreSQL's own stream into confirmed batches (C1, C2): each chunk's range is read from the files into the
// ship log's ring, and counts when it has the chunk's digest. A difference is read again; if it stays, nothing further
// counts until the connection was made anew, and after three connections in a row it gives up. What was written but not
// flushed yet can go ahead of the stream (WrittenReader): its chunks are then compared with what lies in memory.
// Guarantees: (1) next_confirmed() gives chunks in order, each equal to what PostgreSQL sent. (2) No memory is read
// into while an earlier connection's read may still fill it, nor by two reads at once.
class Confirmer {
 public:
  static constexpr std::size_t kReadsMax = 16;
  static constexpr std::size_t kEntriesMax = 4096;

  explicit Confirmer(ShipLog& log, std::uint32_t first_operation) : log_(log), first_operation_(first_operation) {}

  // A new connection. The ship log begins there again.
  void restart(Lsn stream_begin);
  // From here on, until the next restart() or the connection's end, WAL is taken as soon as it is written; not before
  // allow_written(true).
  void take_written(wal::SegmentLayout layout, wal::Scanner::Expect expect);
  void allow_written(bool allowed) { written_.allow(allowed); }
  void on_written() { written_.on_written(); }
  void stop_written() { written_.stop(); }
  Lsn apply_awaited_end() const { return written_.apply_awaited_end(); }
  bool full() const { return entries_.size() >= kEntriesMax; }
  void on_chunk(const UpstreamChunk& chunk, Instant now);
  std::optional<ReadOp> next_read(Instant now);
  bool owns(std::uint32_t operation) const { return operation - first_operation_ <= kReadsMax; }
  void on_read(std::uint32_t operation, DiskStatus status, Instant now);

  struct Confirmed {
    LsnRange range;
    Instant heard;  // When its chunk came.
  };
  std::optional<Confirmed> next_confirmed();  // In the ship log, in order.
  Lsn confirmed_end() const { return confirmed_end_; }

  bool take_reconnect() { return std::exchange(reconnect_, false); }
  bool holding() const { return holding_; }
  bool given_up() const;  // Until a chunk is equal again.
  Lsn stream_end() const { return stream_end_; }
  Instant deadline() const;

 private:
  struct Entry {
    UpstreamChunk chunk;
    Instant heard;
    enum class State : std::uint8_t { kWaiting, kReading, kEqual } state = State::kWaiting;
    std::uint32_t operation = 0;
    int tries = 0;
    Instant not_before{};
  };

  bool equal(const UpstreamChunk& chunk) const;
  void hold(std::deque<Entry>::iterator from);
  std::optional<ReadOp> start_read(std::uint32_t index, LsnRange range);

  ShipLog& log_;
  std::uint32_t first_operation_;
  WrittenReader written_{log_};
  std::deque<Entry> entries_;  // Contiguous from confirmed_end_.
  Lsn confirmed_end_{};
  std::uint32_t busy_ = 0;       // Bit per operation under way.
  std::uint32_t forgotten_ = 0;  // Under way for a connection that is gone.
  Lsn stream_end_{};
  bool holding_ = false;
  bool reconnect_ = false;
  int mismatches_ = 0;
};

}  // namespace slipstream::node
