#pragma once

#include <cstddef>
#include <span>

#include "protocol/verdict.h"

namespace slipstream::seal {
class GroupOpening;
class Opening;
}  // namespace slipstream::seal

namespace slipstream::protocol {

// A frame as it arrived. Guarantee: decode() passes over the tag of plaintext only where AES-GCM has proven the frame,
// which none but open_frame() (sealed_frame.h) can say. It does not own the bytes, which may be written to.
class Arrival {
 public:
  Arrival() = default;
  explicit Arrival(std::span<std::byte> bytes) : bytes_(bytes) {}  // Nothing of them is proven.

  std::span<std::byte> bytes() const { return bytes_; }
  bool is_proven() const { return proven_; }

 private:
  friend Verdict open_frame(Arrival& frame, seal::Opening& opening, seal::GroupOpening& group);

  std::span<std::byte> bytes_;
  bool proven_ = false;
};

}  // namespace slipstream::protocol
