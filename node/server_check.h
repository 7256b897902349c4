#pragma once

#include <optional>
#include <string>

#include "node/io.h"
#include "node/state_file.h"

namespace slipstream::node {

// Why this PostgreSQL is not served, as status shows it.
struct Unfit {
  std::string state;  // One word.
  std::string reason;
};

// May the primary that remembers `state`, and whose replicas hold what was reported up to `held`, serve this server?
// (E1, E7) Nothing: yes.
std::optional<Unfit> unfit_server(const UpstreamConnected& up, const State& state, Lsn held);

}  // namespace slipstream::node
