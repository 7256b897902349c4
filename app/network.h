#pragma once

#include <expected>
#include <memory>

#include "app/config.h"
#include "node/io.h"

namespace slipstream::app {

// Starts DPDK and opens this node's ports as the configuration says, with faults around them where it asks for them.
std::expected<std::unique_ptr<node::Port>, Error> open_network(const Config& config);

}  // namespace slipstream::app
