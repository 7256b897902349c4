#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/time.h"
#include "protocol/frame.h"

namespace slipstream::protocol {

// How long a frame may be to pass the path to one peer, found by probing, in the spirit of RFC 8899: frames of
// kControlBytesMax are taken to pass, anything longer has to be shown to by a probe of that length. Tries what the port
// takes at most, then what common networks carry, then halves what is left down to 16 bytes.
//
// Guarantees:
//   (1) frame_bytes() exceeds kControlBytesMax only by what a probe, sent since the last black hole, came through with.
//   (2) A length counts as too long after three probes without a reply; a late reply still counts.
//   (3) After a black hole (frames of that length ceased to pass) frame_bytes() falls to kControlBytesMax at once, and
//       the search begins anew, first with that length: a false alarm costs one round trip.
//   (4) What was found short of what the port takes is tried again every minute; at other times nothing is sent.
class PathMtu {
 public:
  explicit PathMtu(Instant now) : changed_(now) {}

  void on_port(std::size_t frame_bytes_max);  // What the port takes. A change begins the search anew.
  void on_reply(const PathReply& reply, Instant now);
  void on_black_hole(Instant now);

  std::size_t frame_bytes() const { return frame_bytes_; }
  Instant changed() const { return changed_; }  // frame_bytes() did.
  bool probed() const { return frame_bytes_ > base(); }

  // A probe to be sent now; counts as sent. Its reply is to be there within `timeout`.
  std::optional<PathProbe> next_probe(Duration timeout, Instant now);
  Instant deadline() const { return due_; }

 private:
  std::size_t base() const { return std::min(port_bytes_, kControlBytesMax); }
  void restart();
  void set(std::size_t bytes, Instant now);
  std::optional<std::size_t> candidate() const;

  std::size_t port_bytes_ = 0;   // 0: not known yet.
  std::size_t frame_bytes_ = 0;  // Passes.
  std::size_t too_long_ = 0;     // Above frame_bytes_: does not pass, or cannot be sent.
  std::size_t passed_ = 0;       // Did before the black hole; tried first.
  int tries_ = 0;                // Of the candidate.
  std::uint32_t number_ = 0;     // Of the last probe.
  std::uint32_t counts_from_ = 1;
  Instant due_{};  // Of the next probe.
  Instant changed_;
};

}  // namespace slipstream::protocol
