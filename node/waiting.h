#pragma once

#include <span>
#include <string>
#include <vector>

#include "ack/quorum.h"
#include "node/snapshot.h"

namespace slipstream::node {

// For people: whom commits up to `position` wait for at level durable, a sentence per unmet term. "policy needs 1 more
// of (b1, b2): b1 unreachable …"
std::vector<std::string> waiting_sentences(const ack::Policy& policy, std::span<const ack::ReplicaAcks> acks,
                                           std::span<const ReplicaView> replicas, Lsn position);

}  // namespace slipstream::node
