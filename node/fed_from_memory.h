#pragma once

#include <cstddef>
#include <span>

#include "base/recent_bytes.h"
#include "node/io.h"
#include "node/replica_node.h"

namespace slipstream::node {

// A replica's feed, which finds in memory what it is given: what a turn made durable is copied before it is released.
class FedFromMemory : public Standby {
 public:
  FedFromMemory(Standby& feed, const ReplicaNode& node, std::span<const std::byte> ring, RecentBytes& recent)
      : feed_(feed), node_(node), ring_(ring), recent_(recent) {}

  bool next_event(StandbyEvent& event) override { return feed_.next_event(event); }
  void release(const Release& release) override {
    keep();
    feed_.release(release);
  }

 private:
  void keep();

  Standby& feed_;
  const ReplicaNode& node_;
  std::span<const std::byte> ring_;
  RecentBytes& recent_;
};

}  // namespace slipstream::node
