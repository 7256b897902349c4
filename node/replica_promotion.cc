#include <fmt/format.h>

#include "node/replica_impl.h"

// What is asked of a replica by people: fences, evidence, promotion (P2, P5), and how it is.
namespace slipstream::node {

std::expected<void, Error> ReplicaNode::fence(std::uint32_t term, const std::string& candidate, bool supersede,
                                              Instant) {
  Impl& n = *impl_;
  const Promise& promise = n.state().promise;
  const auto refuse = [&](std::string what, std::string remedy) {
    return std::unexpected(Error{ExitCode::kRefused, std::move(what), "fence of " + n.options.name, std::move(remedy)});
  };
  if (n.state().promoted)
    return refuse(fmt::format("{} was promoted already, in term {}", n.options.name, promise.epoch.term),
                  "it is a primary now: make other replicas from it with init-standby");
  if (term == promise.epoch.term && promise.candidate == candidate) return {};  // The same promise again.
  if (!promise.candidate.empty() && promise.candidate != candidate && !supersede)
    return refuse(
        fmt::format("{} has promised term {} to {}", n.options.name, promise.epoch.term, promise.candidate),
        fmt::format("let {} finish its promotion, or give it up and repeat with --supersede", promise.candidate));
  if (term < promise.epoch.term || (term == promise.epoch.term && !supersede))
    return refuse(
        fmt::format("{} has promised term {} already, {} is not above it", n.options.name, promise.epoch.term, term),
        "name a higher --term");
  n.end_session();
  n.refused_reason.clear();
  n.fence_ticket = n.keeper.change([&](State& s) {
    s.promise = {{term, 0}, {}, candidate};
    n.remember_positions(s);
  });
  return {};
}

bool ReplicaNode::fenced() const {
  const Impl& n = *impl_;
  return !n.state().promise.candidate.empty() && n.phase == Impl::Phase::kNone && n.log.settled() &&
         n.keeper.durable(n.fence_ticket);
}

Evidence ReplicaNode::evidence() const {
  const Impl& n = *impl_;
  const State& s = n.state();
  return {n.options.name, n.options.id,        s.log_id,     s.system,
          s.timeline,     s.promise,           s.held_epoch, std::max(s.counted_end, n.log.durable_end()),
          s.log_begin,    n.log.durable_end(), n.final_end,  s.standby_ready,
          s.log_only,     s.epoch_map,         s.policy,     {}};
}

void ReplicaNode::release_everything() {
  CHECK(fenced());
  impl_->release_all = true;
}

bool ReplicaNode::released() const { return impl_->release_all; }
void ReplicaNode::mark_promoted() {
  impl_->keeper.change([](State& s) { s.promoted = true; });
}

Snapshot ReplicaNode::snapshot(Instant) const {
  const Impl& n = *impl_;
  const State& s = n.state();
  Snapshot out{n.options.name, "replica", {}, {}, n.verdicts.view()};
  ReplicaSelfView& view = out.replica;
  if (s.promoted)
    view.state = "promoted";
  else if (!s.promise.candidate.empty())
    view.state = "fenced";
  else if (n.log.no_space())
    view.state = "no_space", view.reason = "the disk is full: nothing more is acknowledged until there is room";
  else if (n.phase == Impl::Phase::kActive)
    view.state = "receiving";
  else if (!n.refused_reason.empty())
    view.state = "refused";
  else
    view.state = n.phase == Impl::Phase::kNone ? "waiting_for_primary" : "comparing";
  if (view.reason.empty()) view.reason = n.refused_reason;
  if (n.log.fault() != wal::ScanFault::kNone)
    view.reason =
        fmt::format("the log does not scan behind {}: {}", to_string(n.log.fault_at()), wal::to_string(n.log.fault()));
  view.system = s.system, view.timeline = s.timeline, view.log_id = s.log_id, view.held_epoch = s.held_epoch;
  view.promised_epoch = s.promise.epoch, view.promised_to = s.promise.candidate, view.policy = s.policy.text;
  view.log_begin = s.log_begin, view.received_end = n.log.received_end(), view.synced_end = n.log.synced_end(),
  view.durable_end = n.log.durable_end();
  view.final_end = n.final_end, view.fed_end = release().fed_end, view.applied_end = n.applied_end(),
  view.primary_flushed_end = n.primary_flushed;
  view.standby_connected = n.standby_connected, view.standby_ready = s.standby_ready, view.log_only = s.log_only;
  view.bytes_received = n.bytes_before + (n.receiver ? n.receiver->counters().bytes_received : 0);
  view.bytes_duplicate = n.duplicate_before + (n.receiver ? n.receiver->counters().bytes_duplicate : 0);
  return out;
}

}  // namespace slipstream::node
