#pragma once

#include "node/io.h"

namespace slipstream::app {

// A log_only replica has no standby.
class NoStandby : public node::Standby {
 public:
  bool next_event(node::StandbyEvent&) override { return false; }
  void release(const node::Release&) override {}
};

}  // namespace slipstream::app
