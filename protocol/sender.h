#pragma once

#include <deque>
#include <optional>

#include "base/range_set.h"
#include "base/time.h"
#include "protocol/frame.h"
#include "protocol/round_trip.h"

namespace slipstream::protocol {

// The sending half of one session: cuts offered batches into pieces within the receiver's window, repeats what the receiver reports missing, and probes
// when it hears nothing. Knows positions and batches, never the bytes: whoever holds them fills a piece's frame.
// Guarantees: (1) A piece lies within one batch and below window_end and carries that batch's digest. (2) A range reported missing is repeated at most once
//   per round trip, so under loss at most twice the lost bytes are sent again. (3) acked ends never fall within a session; an ack of what was never sent changes nothing.
class Sender {
 public:
  struct Piece {
    LsnRange range;
    Batch batch;
    bool repair = false;
  };
  struct Counters {
    std::uint64_t bytes_sent = 0;
    std::uint64_t bytes_resent = 0;
    std::uint64_t frames_sent = 0;
    std::uint64_t probes_sent = 0;
  };

  Sender(Lsn begin, Lsn window_end, Duration heartbeat, Instant now);

  // ---- Inputs
  Lsn offered_end() const;   // The next batch must begin here.
  bool wants_batch() const;  // Room for another: the window is open at offered_end() and the unacknowledged batches are few (at most 4096).
  void offer(const Batch& batch);
  [[nodiscard]] Verdict on_ack(const Ack& ack, Instant now);
  // What the other side must have heard of: when it changes, or its echo lags, probes go out even without data.
  void on_news(Lsn flushed_end, Lsn confirmed_end, Instant now);

  // ---- Outputs
  // The piece to send next, of at most payload_bytes_max; repairs first. peek does not consume; the caller sends it, then calls pop_piece, or
  // (bytes not in memory) leaves it and fetches batch.range first.
  std::optional<Piece> peek_piece(std::size_t payload_bytes_max, Instant now) const;
  void pop_piece(const Piece& piece, Instant now);
  // A probe is due (tail unacknowledged, news not echoed, or heartbeat). The caller sends it and calls on_probe_sent.
  bool probe_due(Instant now) const;
  void on_probe_sent(Instant now);
  Instant deadline() const;

  Lsn sent_end() const;
  Lsn received_end() const;  // As acknowledged: batches below are forgotten.
  const RoundTrip& round_trip() const;
  const Counters& counters() const;
  // private state: to be designed.
};

}  // namespace slipstream::protocol
