#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>

#include "protocol/receiver.h"
#include "protocol/sender.h"
#include "tests/protocol/samples.h"

namespace slipstream::protocol {

// What a network does to a datagram, as probabilities.
struct Conditions {
  double loss = 0;
  double duplicate = 0;
  double overtaken = 0;  // Comes later by up to `late`.
  double corrupt = 0;    // A random bit of a data frame's payload flips.
  Duration delay = microseconds(50);
  Duration late = microseconds(150);
};

// A sender and a receiver joined by a bad network, in virtual time, everything driven by one seed: encodes and decodes
// every frame, compares every byte that counts as received, and watches the window.
class Link {
 public:
  static constexpr std::size_t kRingBytes = 2u << 20;
  static constexpr Lsn kBegin{(std::uint64_t{7} << 20) + 4096};

  struct Traffic {
    std::uint64_t frames = 0, lost_bytes = 0, data_frames = 0, probes = 0, acks = 0, asking_acks = 0;
  };

  Link(std::size_t stream_bytes, std::uint64_t seed, Conditions conditions = {});

  // Batches are of so many bytes, where the stream's end and multiples of 1 MiB allow.
  void offer_between(std::size_t bytes_min, std::size_t bytes_max) {
    batch_bytes_min_ = bytes_min;
    batch_bytes_max_ = bytes_max;
  }
  void release_after(Duration delay) { release_delay_ = delay; }
  void payload_of(std::size_t bytes) { payload_bytes_max_ = bytes; }
  // Frames lost besides, by their number in the order of sending, counted over both directions from 0.
  std::function<bool(std::uint64_t number, FrameKind kind)> drop;

  // Until everything arrived and was acknowledged; whether that came to pass within `limit`.
  bool run(Duration limit);

  Instant now{1'000'000'000};
  Lsn end;
  Sender sender;
  Receiver receiver;
  Traffic traffic;

 private:
  struct Datagram {
    bool to_receiver;
    Bytes bytes;
  };

  bool done() const { return receiver.received_end() == end && sender.received_end() == end; }
  void turn();
  void send_all();
  void transmit(bool to_receiver, Bytes frame);
  void deliver();
  void at_receiver(const Frame& frame);
  void release();
  std::span<const std::byte> content(LsnRange range) const;
  bool chance(double probability) { return std::uniform_real_distribution<>()(random_) < probability; }
  Instant next_event() const;

  std::mt19937_64 random_;
  Conditions conditions_;
  std::size_t batch_bytes_min_ = 1;
  std::size_t batch_bytes_max_ = kBatchBytesMax;
  std::size_t payload_bytes_max_ = 1336;
  Duration release_delay_ = microseconds(200);
  Bytes stream_;
  std::multimap<Instant, Datagram> flying_;
  std::multimap<Instant, Lsn> stable_;
  Lsn compared_end_{kBegin};
  Lsn told_window_{};
  std::uint64_t packet_number_ = 0;
};

}  // namespace slipstream::protocol
