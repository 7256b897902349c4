#pragma once

#include <expected>
#include <string>

#include "base/error.h"
#include "base/lsn.h"
#include "postgres/connection.h"

namespace slipstream::postgres {

// Makes the server flush everything that was inserted into its WAL so far, over an SQL session of its own, and says how
// far it is flushed then. `walsender` is the process of a replication connection to the same server: an error if it is
// not there. Writes one small record. Waits for no replica.
std::expected<Lsn, Error> force_flush(const std::string& conninfo, const std::string& application_name, int walsender,
                                      Patience patience);

}  // namespace slipstream::postgres
