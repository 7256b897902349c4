#pragma once

#include <optional>
#include <string>

#include "node/state_file.h"
#include "protocol/frame.h"

namespace slipstream::node {

struct Objection {
  protocol::RefuseReason reason;
  std::string text;
};

// May this primary open a session with the replica `name` that remembers `state`? (E1 to E3, P2) Nothing: yes.
std::optional<Objection> objection_to(const protocol::FrameHeader& header, const protocol::Hello& hello,
                                      const State& state, const std::string& name);

}  // namespace slipstream::node
