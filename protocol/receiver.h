#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/range_set.h"
#include "base/time.h"
#include "protocol/frame.h"
#include "protocol/round_trip.h"

namespace slipstream::protocol {

// The receiving half of one session: puts payloads in their place in a ring of memory, in any order, verifies each
// batch's digest, and knows what is missing. Takes frames as decode() accepted them and the node found to belong to its
// session.
//
// Guarantees:
//   (1) received_end is contiguous from `begin`, every batch below it had its digest checked, and it never falls.
//   (2) No byte below received_end is written again.
//   (3) window_end never falls and never lets a byte overwrite one at or above the released end.
//   (4) A refused frame changes nothing; a batch whose digest differs is dropped whole and asked for again (its last
//       frame gives kChecksum).
//   (5) All that was sent and has not arrived is asked for, in rising order: once it is older than frames lately came
//       late by overtaking (200 us to 5 ms; a probe tells of what is older than 200 us), then again once repairs lately
//       came sooner (2 to 200 ms), after twice that and so on up to 64 ms. Before a repair has come only the first gap
//       is asked for again.
//   (6) At most 8192 batches and about as many gaps are remembered; what is beyond is refused, or comes twice.
//
// Memory: `ring` (a power of two, at least 2 MiB) belongs to the caller; the byte at position p lives at ring[p %
// size].
class Receiver {
 public:
  struct Counters {
    std::uint64_t bytes_received = 0;  // New payload bytes.
    std::uint64_t bytes_duplicate = 0;
    std::uint64_t batches_dropped = 0;  // Digest differed.
    std::uint64_t requests_sent = 0;    // Missing ranges asked for.
  };

  Receiver(std::span<std::byte> ring, Lsn begin, Lsn released_end, Instant now);

  [[nodiscard]] Verdict on_data(const FrameHeader& header, const Data& data, Instant now);
  void on_probe(const FrameHeader& header, const Probe& probe, Instant now);
  void on_released(Lsn released_end);  // The caller no longer needs memory below (a 4096-aligned position).

  Lsn received_end() const { return received_end_; }
  Lsn window_end() const { return released_end_ + ByteCount{ring_.size()}; }
  Lsn sent_end() const { return sent_end_; }  // Highest position known to have been sent.

  // Acks. Due when something arrived or a gap's time has come; the node fills the rest of the Ack and asks on its own
  // account when other ends move. That new bytes have arrived may be held back for `hold`, so that one ack tells more.
  bool ack_due(Instant now, Duration hold = {}) const {
    return ack_wanted_ || gap_due_ <= now || (news_ && now >= news_since_ + hold);
  }
  // Sets received_end, window_end, echo fields and the missing ranges whose time has come.
  void fill_ack(Ack& ack, Instant now);
  Instant deadline(Duration hold = {}) const {
    return news_ && hold.ns > 0 ? std::min(gap_due_, news_since_ + hold) : gap_due_;
  }
  const Counters& counters() const { return counters_; }

 private:
  struct Incoming {
    Batch batch;
    bool verified = false;
  };
  struct Gap {
    LsnRange range;
    Instant noticed;
    // When it was noticed: what fills it and was sent later is a repair, earlier: was overtaken.
    std::uint64_t newest_sent_at = 0;
    Instant due;
    int tries = 0;
    std::optional<Instant> asked{};  // The first time, while nothing of it has come.
  };
  using Place = std::vector<Incoming>::iterator;

  std::span<std::byte> memory(LsnRange range) const {
    return ring_.subspan(range.begin.value & (ring_.size() - 1), range.size().value);
  }
  void hear(const FrameHeader& header, Instant now);
  Verdict duplicate(LsnRange range);
  Verdict finish_batch(Place place, Instant now);
  void drop_batch(Place place, Instant now);
  void raise_sent_end(Lsn end, Instant now, Duration patience);
  void close_gaps(LsnRange range, std::uint64_t sent_at, Instant now);
  void forget_gaps_below(Lsn end);
  void learn(const Gap& gap, std::uint64_t sent_at, Instant now);
  void learn_repair_time(const Gap& gap, Instant now);
  Duration retry_after(int tries) const;
  void find_gap_due();

  std::span<std::byte> ring_;
  Lsn received_end_;
  Lsn released_end_;               // released_end_ <= received_end_
  Lsn sent_end_;                   // received_end_ <= sent_end_ <= window_end()
  RangeSet arrived_;               // At and above received_end_; each byte within one of batches_.
  std::vector<Incoming> batches_;  // At and above received_end_, sorted, disjoint.
  std::vector<Gap> gaps_;          // Within [received_end_, sent_end_), sorted, disjoint; all that has not arrived.
  Instant gap_due_ = kNever;       // The earliest of gaps_.
  Duration reorder_delay_;         // A gap this old is a loss.
  bool repaired_ = false;          // Something that was asked for has come.
  RoundTrip repair_time_;          // From asking to arriving.
  Instant answered_round_{};       // The latest time of asking that was answered before it was asked again.
  Instant doubtful_round_{};       // Of asking later than that: the latest that was answered only then.
  int doubtful_rounds_ = 0;
  bool ack_wanted_ = false;
  bool news_ = false;  // Bytes arrived that no ack has told of, the first ones at news_since_.
  Instant news_since_{};
  std::uint64_t newest_sent_at_ = 0;  // Of the newest frame, for the echo.
  Instant newest_at_;
  Lsn flushed_end_{}, confirmed_end_{};
  Counters counters_;
};

}  // namespace slipstream::protocol
