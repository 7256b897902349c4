#include "node/server_check.h"

#include <fmt/format.h>

#include <limits>

namespace slipstream::node {

std::optional<Unfit> unfit_server(const UpstreamConnected& up, const State& state, Lsn held) {
  if (state.system.value != 0 && state.system != up.system)
    return Unfit{"other_cluster", fmt::format("PostgreSQL's system identifier is {}, but this state directory belongs "
                                              "to {}: point it at the right server, or use another state_directory",
                                              up.system.value, state.system.value)};
  if (state.segment_size.value != 0 && state.segment_size != up.segment_size)
    return Unfit{
        "other_segment_size",
        fmt::format("wal_segment_size is {}, but was {} before: make the replicas and the state_directory anew",
                    up.segment_size.value, state.segment_size.value)};
  if (up.timeline < state.timeline)
    return Unfit{
        "older_timeline",
        fmt::format(
            "PostgreSQL is on timeline {}, but timeline {} was served from here before: this server is an older one",
            up.timeline.value, state.timeline.value)};
  if (up.flushed_end < held)
    return Unfit{"lost_wal", fmt::format("PostgreSQL has flushed only to {}, but replicas hold what it had reported "
                                         "to {}: it lost flushed WAL. Promote a replica",
                                         to_string(up.flushed_end), to_string(held))};
  if (state.own_epoch.incarnation == std::numeric_limits<std::uint32_t>::max())
    return Unfit{"epochs_used_up", fmt::format("term {} has no epoch left: slipstream run -c FILE --claim-term {}",
                                               state.own_epoch.term, state.own_epoch.term + 1)};
  return std::nullopt;
}

}  // namespace slipstream::node
