#pragma once

#include <optional>

#include "base/range_set.h"
#include "base/time.h"
#include "protocol/batch_queue.h"
#include "protocol/frame.h"
#include "protocol/rate_control.h"
#include "protocol/recent_ranges.h"
#include "protocol/round_trip.h"

namespace slipstream::protocol {

// The sending half of one session: cuts offered batches into pieces within the receiver's window, repeats what the
// receiver reports missing, and probes when it hears nothing. Knows positions and batches, never the bytes: whoever
// holds them fills a piece's frame.
//
// Guarantees:
//   (1) A piece lies within one batch and below window_end and carries that batch's digest.
//   (2) A range reported missing is repeated at most once per round trip, so under loss at most twice the lost bytes
//       are sent again.
//   (3) Acknowledged ends never fall within a session; an ack of what was never sent, or one overtaken by a newer,
//       changes nothing.
//   (4) While an answer is awaited (to data, to news, or for a shut window) a probe follows each probe timeout,
//       doubling to 200 ms: nothing depends on one frame's arrival.
//   (5) No allocation once its capacities are reached.
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

  Sender(Lsn begin, Lsn window_end, Duration heartbeat, Instant now, RateLimits limits = {});

  // ---- Inputs
  Lsn offered_end() const { return offered_end_; }  // The next batch must begin here.
  // Room for another: the window is open at offered_end() and the unacknowledged batches are few (at most 4096).
  bool wants_batch() const;
  void offer(const Batch& batch);
  // kOtherSession: it is from another receiver than the acks before, and the session has to begin anew.
  [[nodiscard]] Verdict on_ack(const Ack& ack, Instant now);
  // What the other side must have heard of: when it changes, or its echo lags, probes go out even without data.
  void on_news(Lsn flushed_end, Lsn confirmed_end, Duration hold, Instant now);

  // ---- Outputs
  // The piece to send next, of at most payload_bytes_max; repairs first. peek does not consume; the caller sends it,
  // then calls pop_piece, or (bytes not in memory) leaves it and fetches batch.range first.
  std::optional<Piece> peek_piece(std::size_t payload_bytes_max, Instant now) const;
  void pop_piece(const Piece& piece, Instant now);
  // A probe is due (tail unacknowledged, news not echoed, window shut, or heartbeat). The caller sends it and calls
  // on_probe_sent.
  bool probe_due(Instant now) const;
  Lsn probe_end(Instant now) const;  // What it says was sent: longer than kReorderAllowance ago.
  void on_probe_sent(Instant now);
  Instant deadline() const;
  // Frames sent long (20 ms and 4 round trips) after `since` and after the oldest unacknowledged byte was first sent
  // arrived, but not that byte: the path may not carry what it is sent in.
  bool stalls_since(Instant since) const;
  // When a piece that waits for the rate's cap may go; kNever when none does.
  Instant held_until() const;

  Lsn sent_end() const { return sent_end_; }
  Lsn received_end() const { return received_end_; }  // As acknowledged: batches below are forgotten.
  const RoundTrip& round_trip() const { return round_trip_; }
  const Counters& counters() const { return counters_; }

 private:
  void take_sample(Duration round_trip, const Ack& ack, Instant now);
  void request_repairs(const Ack& ack, Instant now);
  bool tail_unacknowledged() const { return received_end_ < sent_end_; }
  void carry_news();
  bool news_unheard() const {
    return heard_flushed_end_ < carried_flushed_end_ || heard_confirmed_end_ < carried_confirmed_end_;
  }
  bool window_shut() const { return sent_end_ >= window_end_; }
  bool waits_for_answer() const { return tail_unacknowledged() || news_unheard() || window_shut(); }
  Duration probe_timeout() const;
  LsnRange next_range() const;
  ByteCount under_way() const { return sent_end_ - received_end_; }

  BatchQueue batches_;  // From the one that holds received_end_ to offered_end_.
  Lsn offered_end_;
  Lsn sent_end_;  // received_end_ <= sent_end_ <= offered_end_, and sent_end_ <= window_end_.
  Lsn received_end_;
  Lsn window_end_;
  RangeSet repairs_;                                     // To be sent again; within [received_end_, sent_end_).
  RecentRanges repeated_;                                // Sent again within about a round trip.
  Lsn flushed_end_{}, confirmed_end_{};                  // The news.
  Lsn carried_flushed_end_{}, carried_confirmed_end_{};  // As frames have carried them,
  Lsn heard_flushed_end_{}, heard_confirmed_end_{};      // and as echoed.
  Instant news_due_{};                                   // When they go out at the latest, while not carried yet.
  bool news_carried_ = true;                             // A frame has carried the latest news.
  std::uint64_t echoed_sent_at_;  // The newest echo; an ack with an older one was overtaken on the way.
  Duration heartbeat_;
  Instant last_sent_;
  Instant data_sent_{};    // New data, last.
  Instant last_progress_;  // When an ack last moved received_end_.
  Instant waits_since_;    // The same, or later: when the first byte beyond it was sent.
  int backoff_ = 0;        // Doublings of the probe timeout since an answer came.
  RoundTrip round_trip_;
  RateControl rate_;
  ByteCount unsampled_{};  // Acknowledged since the last sample of a round trip.
  Counters counters_;
};

}  // namespace slipstream::protocol
