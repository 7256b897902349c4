#pragma once

#include <cstdint>

#include "base/digest.h"
#include "base/lsn.h"

namespace slipstream::wal {

constexpr std::uint64_t kBlockBytes = 64 * 1024;  // Ledger blocks are aligned to this.

// One line of a ledger: XXH3-128 of the WAL bytes of (part of) one aligned 64 KiB block. (docs/segment_format.md)
struct BlockDigest {
  LsnRange range;
  Digest128 digest;
  bool operator==(const BlockDigest&) const = default;
};

}  // namespace slipstream::wal
