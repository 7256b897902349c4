#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace slipstream::wal {

// CRC-32C (RFC 3720, B.4) with the CPU's instruction. `Crc32c c; c.add(a); c.add(b); c.value()`.
class Crc32c {
 public:
  void add(std::span<const std::byte> bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xffffffffu;
};

}  // namespace slipstream::wal
