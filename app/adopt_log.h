#pragma once

#include <cstddef>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>

#include "app/replica_directory.h"
#include "base/error.h"

namespace slipstream::app {

struct AdoptedLog {
  std::string from;          // Whose log it is.
  Lsn held_end;              // Where the own log ended.
  Lsn end;                   // Where it ends now.
  std::size_t segments = 0;  // Written anew.
};

// Gives the log of `own`, a stopped replica's, everything that the better log in `from` holds (P4), so that the standby
// beside it can be promoted. `name`: who `own` is; both must hold the promise of the same term to it. `evidence`: what
// the other answered to its fence; its directory must hold all of that. Guarantees: (1) refused (kRefused) unless the
// own log, compared byte by byte from 256 blocks below final_end on, is a prefix of the other; the position of the
// first difference is named.
//   Bytes are only ever added. (2) At every moment, crashes included, the own log holds what it held before, labelled
//   as the other labels the same bytes; repeating finishes what was interrupted. (3) On success the new end is the
//   other's, scanned, and all of it is on stable storage. (4) Nothing in `from` is changed.
// What `own` holds in memory is stale afterwards.
std::expected<AdoptedLog, Error> adopt_log(ReplicaDirectory& own, const std::filesystem::path& from,
                                           const std::string& name, const std::optional<node::Evidence>& evidence);

}  // namespace slipstream::app
