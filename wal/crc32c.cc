#include "wal/crc32c.h"

#include <nmmintrin.h>

#include <cstring>

namespace slipstream::wal {

void Crc32c::add(std::span<const std::byte> bytes) {
  std::uint64_t crc = state_;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  auto tail = static_cast<std::uint32_t>(crc);
  for (; left > 0; --left, ++at) tail = _mm_crc32_u8(tail, static_cast<unsigned char>(*at));
  state_ = tail;
}

}  // namespace slipstream::wal
