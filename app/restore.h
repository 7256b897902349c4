#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/lsn.h"

namespace slipstream::app {

// What PostgreSQL takes for "stop": it treats 1 to 125 of a restore_command as "no such file, the archive ends here".
constexpr int kRestoreFailed = 255;

struct Restored {
  bool done = false;
  std::string why_not;  // Then the destination was not touched.
};

// A replica's log as an archive: copies the file that a restore_command's %f names to its %p, durably and all at once.
// `directory` is the replica's, whose daemon may run or not; `final_end` is what that daemon says is final, if it was
// asked (else Lsn{}: as the state file says, up to a second behind).
// Given are history files and whole segments below what is final: bytes that no later promotion can replace. A segment
// with a fork in it is given as the newer timeline's file only. A segment that has a ledger is compared with it first.
// Errors: kUsage (not a name that PostgreSQL asks for), kDirectory (not a replica's directory, damage: the segment is
// missing, too short, or differs from its ledger), kStorage (cannot be written).
std::expected<Restored, Error> restore_file(const std::filesystem::path& directory, Lsn final_end,
                                            const std::string& name, const std::filesystem::path& destination);

}  // namespace slipstream::app
