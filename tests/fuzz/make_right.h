#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "protocol/frame.h"
#include "tests/protocol/renew_tag.h"

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
  renew_tag(all);
  return true;
}

}  // namespace slipstream::protocol
