#pragma once

#include "base/time.h"
#include "node/held.h"
#include "node/io.h"
#include "node/primary_node.h"
#include "node/replica_node.h"

namespace slipstream::node {

// One turn: take what arrived, advance the node, hand out what it wants done. The same function runs over DPDK and in
// the simulator. Returns whether anything happened (for the idle strategy). Reads no clock. What the disk could not
// take waits in `held`, by default the node's own.
bool step(PrimaryNode& node, Port& port, Disk& disk, Upstream& upstream, Instant now);
bool step(ReplicaNode& node, Port& port, Disk& disk, Standby& standby, NodeId primary, Instant now);
bool step(PrimaryNode& node, PrimaryHeld& held, Port& port, Disk& disk, Upstream& upstream, Instant now);
bool step(ReplicaNode& node, ReplicaHeld& held, Port& port, Disk& disk, Standby& standby, NodeId primary, Instant now);

}  // namespace slipstream::node
