#pragma once

#include <cstddef>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/log_copy.h"
#include "base/error.h"
#include "base/lsn.h"

namespace slipstream::app {

// Where two copies of a log differ first.
struct Difference {
  enum class Kind : std::uint8_t {
    kBytes,    // `at` is the first byte that is not the same.
    kBlock,    // As the digests say: the first 64 KiB block; at least one copy's bytes are not at hand.
    kLedgers,  // The same, but the bytes are equal now: one of the ledgers is of other bytes.
    kMissing,  // One copy has WAL before and behind, but nothing here.
  };
  Kind kind = Kind::kBytes;
  Lsn at;
  std::string missing_in;              // kMissing: the copy's name.
  std::vector<std::byte> left, right;  // kBytes: up to 16 from `at` on.
  std::string left_file, right_file;   // That hold `at`; empty: there is none.
};

struct Verification {
  LsnRange compared;          // Up to the difference, if there is one.
  std::size_t segments = 0;   // In part or as a whole.
  std::size_t by_ledger = 0;  // Of them, by their ledgers alone.
  std::size_t left_out = 0;   // Removed meanwhile, or only one copy's ledgers are at hand and lack it.
  std::string ends_early;     // Name of the copy whose WAL ended before the other's; empty: none did.
  std::optional<Difference> difference;
};

struct VerifyOptions {
  bool bytes = false;                                  // Also where both have ledgers that say the same.
  std::function<void(Lsn at, LsnRange all)> progress;  // After each segment.
};

// Compares two copies of a log position by position, where both have it, by the ledgers and then by bytes; stops at the
// first difference. A daemon or server of either may go on meanwhile: what is removed before it was looked at is left
// out. Errors: kDirectory (two clusters' logs, nothing that both have, a damaged ledger).
std::expected<Verification, Error> verify(LogCopy& left, LogCopy& right, const VerifyOptions& options);

}  // namespace slipstream::app
