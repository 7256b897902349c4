#pragma once

#include <cstdint>

namespace slipstream::wal::io {

enum class IoStatus : std::uint8_t {
  kOk,       // A read: all bytes are there. A write: durable.
  kMissing,  // A read: no such segment, or it is too short.
  kNoSpace,  // A write: may succeed later.
  kFailed,   // After a write nothing is known about what is durable: fatal.
};

struct IoDone {
  std::uint32_t id = 0;
  IoStatus status = IoStatus::kOk;
};

}  // namespace slipstream::wal::io
