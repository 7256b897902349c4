#pragma once

#include <string>

#include "app/control.h"
#include "node/snapshot.h"

namespace slipstream::app {

// A node's Snapshot as `status --json` prints it. Positions are texts in PostgreSQL's spelling, times are microseconds.
Json status_json(const node::Snapshot& snapshot);

// The same for people: a few aligned lines.
std::string status_table(const Json& status);

}  // namespace slipstream::app
