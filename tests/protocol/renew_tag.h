#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "protocol/frame.h"

namespace slipstream::protocol {

// Computes a plaintext frame's tag anew, as whoever forges one does: over all but its own place and the payload of data
// and path probes. Does nothing where decode() refuses the frame before it looks at the tag.
inline void renew_tag(std::span<std::byte> frame) {
  if (frame.size() < kHeaderBytes) return;
  const auto kind = static_cast<FrameKind>(frame[3]);
  const bool header_alone = kind == FrameKind::kData || kind == FrameKind::kPathProbe;
  const std::size_t header_bytes =
      std::to_integer<std::size_t>(frame[6]) + 256 * std::to_integer<std::size_t>(frame[7]);
  const std::size_t covered = header_alone ? header_bytes : frame.size();
  if (covered < kHeaderBytes || covered > frame.size()) return;
  std::vector<std::byte> hashed(frame.begin(), frame.begin() + kTagOffset);
  hashed.insert(hashed.end(), frame.begin() + kHeaderBytes, frame.begin() + static_cast<std::ptrdiff_t>(covered));
  const Digest128 digest = xxh3_128(hashed);
  ByteWriter tag(frame.subspan(kTagOffset, kTagBytes));
  tag.le(digest.high);
  tag.le(digest.low);
}

}  // namespace slipstream::protocol
