#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"

namespace slipstream::wal {

constexpr std::uint64_t kBlockBytes = 64 * 1024;  // Ledger blocks are aligned to this.

// One line of a ledger: XXH3-128 of the WAL bytes of (part of) one aligned 64 KiB block. (docs/segment_format.md)
struct BlockDigest {
  LsnRange range;
  Digest128 digest;
  bool operator==(const BlockDigest&) const = default;
};

// The digests of one segment file's blocks, kept beside it to tell later whether its bytes are still the same.
// Invariants, held by whatever decode_ledger() returns: (1) `segment` is one whole segment of a size that PostgreSQL
//   knows. (2) The blocks follow on each other without a gap from its begin; each is a whole aligned block, the last
//   one perhaps only its first part. There is at least one.
// Format: docs/segment_format.md.
struct Ledger {
  TimelineId timeline;
  LsnRange segment;
  std::vector<BlockDigest> blocks;
  bool operator==(const Ledger&) const = default;
};

std::vector<std::byte> encode(const Ledger& ledger);  // CHECKs the invariants.
// `where` names the file in the error (kDirectory).
std::expected<Ledger, Error> decode_ledger(std::span<const std::byte> file, const std::string& where);

}  // namespace slipstream::wal
