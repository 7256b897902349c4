#pragma once

#include <string>
#include <vector>

#include "node/snapshot.h"

namespace slipstream::app {

// What the ports' views tell that an operator should read once: a link lost or up again, a device that stalled.
class PortLog {
 public:
  // One sentence for each that happened since the last look. The ports are always the same.
  std::vector<std::string> look(const std::vector<node::PortView>& ports);

 private:
  std::vector<node::PortView> seen_;
};

}  // namespace slipstream::app
