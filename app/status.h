#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/control.h"
#include "node/snapshot.h"
#include "postgres/feed.h"

namespace slipstream::app {

// A node's Snapshot as `status --json` prints it. Positions are texts in PostgreSQL's spelling, times are microseconds.
Json status_json(const node::Snapshot& snapshot);

// Who reads from a replica's feed, and how its standby fares: state "streaming", "away", or "needs_older_wal" with
// reason and remedy (it asked for what this log no longer has).
Json feed_json(const postgres::FeedView& view);

// The same for people: a few aligned lines.
std::string status_table(const Json& status);

// The node's state in one line, as the log has each change of it: "running; a streaming; b unreachable".
std::string state_line(const node::Snapshot& snapshot);
// That, and whom commits wait for. No line breaks.
std::string service_line(const node::Snapshot& snapshot);

// "split brain possible until b, c are fenced: …", with the commands.
std::string split_brain_warning(const std::vector<std::string>& unfenced, const std::string& candidate,
                                std::uint32_t term);

}  // namespace slipstream::app
