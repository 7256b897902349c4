#pragma once

#include <cstddef>
#include <expected>
#include <filesystem>

#include "base/error.h"

namespace slipstream::app {

struct LedgerCheck {
  std::size_t segments = 0;  // Equal to their ledgers.
  std::size_t blocks = 0;
  std::size_t without = 0;  // Segments that have no ledger: not complete, or not yet reached by the daemon.
};

// Compares every segment of a stopped replica that has a ledger with it, the oldest first, and changes nothing.
// Errors (kDirectory): no replica's directory, in use; or the first block that differs, with position and file; a
// segment of the log that is missing; a ledger that is damaged.
std::expected<LedgerCheck, Error> check_against_ledgers(const std::filesystem::path& directory);

}  // namespace slipstream::app
