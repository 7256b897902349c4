#pragma once

#include <optional>

#include "node/io.h"

namespace slipstream::node {

// Operations that a node handed out and the disk could not take yet; step() offers them again at the next turn.
struct PrimaryHeld {
  std::optional<PersistOp> persist;
  std::optional<ReadOp> read;
};
struct ReplicaHeld {
  std::optional<PersistOp> persist;
  std::optional<KeepHistoryOp> history;
  std::optional<WriteOp> write;
  std::optional<ReadOp> read;
};

}  // namespace slipstream::node
