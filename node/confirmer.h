#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "node/io.h"
#include "node/ship_log.h"

namespace slipstream::node {

// Turns PostgreSQL's own stream into confirmed batches (C1, C2): each chunk's range is read from the files into the
// ship log's ring, and counts when it has the chunk's digest. A difference is read again; if it stays, nothing further
// counts until the connection was made anew, and after three connections in a row it gives up. Guarantees: (1)
// next_confirmed() gives chunks in order, each equal to what PostgreSQL sent. (2) No memory is read into while an
// earlier connection's read may still fill it.
class Confirmer {
 public:
  static constexpr std::size_t kReadsMax = 16;
  static constexpr std::size_t kEntriesMax = 4096;

  explicit Confirmer(ShipLog& log, std::uint32_t first_operation) : log_(log), first_operation_(first_operation) {}

  void restart(Lsn stream_begin);  // A new connection. The ship log begins there again.
  bool full() const { return entries_.size() >= kEntriesMax; }
  void on_chunk(const UpstreamChunk& chunk, Instant now);
  std::optional<ReadOp> next_read(Instant now);
  bool owns(std::uint32_t operation) const { return operation - first_operation_ < kReadsMax; }
  void on_read(std::uint32_t operation, DiskStatus status, Instant now);

  struct Confirmed {
    protocol::Batch batch;
    Instant heard;  // When its chunk came.
  };
  std::optional<Confirmed> next_confirmed();  // Appended to the ship log, in order.

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

  ShipLog& log_;
  std::uint32_t first_operation_;
  std::deque<Entry> entries_;    // Contiguous from the ship log's end.
  std::uint32_t busy_ = 0;       // Bit per operation under way.
  std::uint32_t forgotten_ = 0;  // Under way for a connection that is gone.
  Lsn stream_end_{};
  bool holding_ = false;
  bool reconnect_ = false;
  int mismatches_ = 0;
};

}  // namespace slipstream::node
