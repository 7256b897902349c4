#pragma once

#include <cstddef>
#include <span>

#include "base/range_set.h"
#include "base/time.h"
#include "protocol/frame.h"
#include "protocol/round_trip.h"

namespace slipstream::protocol {

// The receiving half of one session: puts payloads in their place in a ring of memory, in any order, verifies each batch's digest, and
// knows what is missing.
// Guarantees: (1) received_end is contiguous from `begin`, every batch below it had its digest checked, and it never falls. (2) No byte below received_end is
//   written again. (3) window_end never falls and never lets a byte overwrite one at or above the released end. (4) A refused frame changes nothing; a batch whose digest differs is
//   dropped whole and asked for again.
// Memory: `ring` (a power of two) belongs to the caller; the byte at position p lives at ring[p % size].
class Receiver {
 public:
  struct Counters {
    std::uint64_t bytes_received = 0;   // New payload bytes.
    std::uint64_t bytes_duplicate = 0;
    std::uint64_t batches_dropped = 0;  // Digest differed.
    std::uint64_t requests_sent = 0;    // Missing ranges asked for.
  };

  Receiver(std::span<std::byte> ring, Lsn begin, Lsn released_end, Instant now);

  [[nodiscard]] Verdict on_data(const FrameHeader& header, const Data& data, Instant now);
  void on_probe(const FrameHeader& header, const Probe& probe, Instant now);  // Raises what is known to have been sent; an ack becomes due.
  void on_released(Lsn released_end);  // The caller no longer needs memory below (a 4096-aligned position).

  Lsn received_end() const;
  Lsn window_end() const;  // released end + ring size.
  Lsn sent_end() const;    // Highest position known to have been sent.

  // Acks. Due when something arrived or a gap's time has come; the node fills the rest of the Ack and asks on its own account when other ends move.
  bool ack_due(Instant now) const;
  // Sets received_end, window_end, echo fields and the missing ranges whose time has come (a gap is reported after a short reordering delay and again after each probe timeout).
  void fill_ack(Ack& ack, Instant now);
  Instant deadline() const;
  const Counters& counters() const;
  // private state: to be designed.
};

}  // namespace slipstream::protocol
