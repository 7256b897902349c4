#include "tests/sim/authentic.h"

#include <fmt/format.h>

namespace slipstream::sim {
namespace {

std::string ends(const ack::Ends& ends) {
  return fmt::format("{} {} {}", to_string(ends[ack::Level::kReceived]), to_string(ends[ack::Level::kDurable]),
                     to_string(ends[ack::Level::kApplied]));
}

std::string state_of(const node::PrimaryView& view) {
  std::string out = fmt::format("{} {} flushed {} valid {} shipped {} confirmed {} slot {} committed {} policy {} {}",
                                view.state, to_string(view.epoch), to_string(view.flushed_end),
                                to_string(view.valid_end), to_string(view.shipped_end), to_string(view.confirmed_end),
                                to_string(view.slot_end), ends(view.committed), view.policy_version, view.policy);
  for (const node::ReplicaView& each : view.replicas)
    out += fmt::format("; {} {:x} {} {} counts {} ends {} final {} sent {} standby {} kept {}", each.name,
                       each.log_id.value.high ^ each.log_id.value.low, each.state, each.reason, each.counts,
                       ends(each.ends), to_string(each.final_end), to_string(each.sent_end), each.standby_ready,
                       each.kept_by_slot);
  return out;
}

std::string state_of(const node::ReplicaSelfView& view) {
  return fmt::format("held {} promised {} to {} policy {} log {} received {} durable {} final {} fed {} flushed {}",
                     to_string(view.held_epoch), to_string(view.promised_epoch), view.promised_to, view.policy,
                     to_string(view.log_begin), to_string(view.received_end), to_string(view.durable_end),
                     to_string(view.final_end), to_string(view.fed_end), to_string(view.primary_flushed_end));
}

}  // namespace

std::string state_of(const node::Snapshot& snapshot) {
  return snapshot.role == "primary" ? state_of(snapshot.primary) : state_of(snapshot.replica);
}

}  // namespace slipstream::sim
