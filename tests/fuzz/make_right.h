#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "protocol/frame.h"

namespace slipstream::protocol {

// Gives arbitrary bytes the magic, version, lengths and tag that they would need to be looked at any further: what
// whoever can forge plaintext frames does. False: they are no frame whatever is done.
inline bool make_right(std::vector<std::byte>& frame) {
  if (frame.size() < kHeaderBytes || frame.size() > kControlBytesMax + 128) return false;
  const bool is_data = frame[3] == static_cast<std::byte>(FrameKind::kData);
  const bool is_path_probe = frame[3] == static_cast<std::byte>(FrameKind::kPathProbe);
  const std::size_t header_bytes = is_data ? kDataHeaderBytes : is_path_probe ? kPathProbeHeaderBytes : kHeaderBytes;
  if (frame.size() < header_bytes) return false;
  const std::span<std::byte> all(frame);
  ByteWriter start{all};
  start.le(kMagic);
  start.le(kFormatVersion);
  ByteWriter length{all.subspan(6)};
  length.le(static_cast<std::uint16_t>(header_bytes));
  ByteWriter payload{all.subspan(60)};
  payload.le(static_cast<std::uint32_t>(frame.size() - header_bytes));
  std::vector<std::byte> hashed(frame.begin(), frame.begin() + kTagOffset);
  const std::size_t hashed_end = is_data || is_path_probe ? header_bytes : frame.size();
  hashed.insert(hashed.end(), frame.begin() + kTagOffset + kTagBytes,
                frame.begin() + static_cast<std::ptrdiff_t>(hashed_end));
  const Digest128 digest = xxh3_128(hashed);
  ByteWriter tag{all.subspan(kTagOffset)};
  tag.le(digest.high);
  tag.le(digest.low);
  return true;
}

}  // namespace slipstream::protocol
