#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "node/snapshot.h"

namespace slipstream::app {

// Whose slot of joining (init-standby) is needed no more: of each replica that the daemon's own slot has come to keep
// WAL for. A replica that was made anew under its name has a new slot of joining, perhaps between two looks: it is told
// by its log's id.
class JoinedReplicas {
 public:
  // Of those who were heard lately: init-standby takes longer than that, from the end of the daemon before it on.
  static constexpr Duration kLately = milliseconds(500);
  // Names of those that joined since the last look.
  std::vector<std::string> look(const node::PrimaryView& view) {
    std::vector<std::string> out;
    for (const node::ReplicaView& replica : view.replicas) {
      if (!replica.kept_by_slot) {
        joined_.erase(replica.name);
        continue;
      }
      // It may be gone, and made anew by now: the slot under its name is the new one's.
      if (replica.last_heard > kLately) continue;
      const auto [known, fresh] = joined_.try_emplace(replica.name, replica.log_id);
      if (fresh || known->second != replica.log_id) out.push_back(replica.name);
      known->second = replica.log_id;
    }
    return out;
  }

 private:
  std::map<std::string, LogId> joined_;
};

}  // namespace slipstream::app
