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
  if (n.cutting())  // What it holds is about to change: no evidence of it may be given (P2).
    return refuse(fmt::format("{} is about to cut its log at {}, where it differs from its primary's", n.options.name,
                              to_string(n.state().replacement->from)),
                  "repeat in a moment, when it was opened anew");
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
    s.unfenced.clear();
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
  return {n.options.name,
          n.options.id,
          s.log_id,
          s.system,
          s.timeline,
          s.promise,
          s.held_epoch,
          std::max(s.counted_end, n.log.durable_end()),
          s.log_begin,
          n.log.durable_end(),
          n.final_end,
          s.standby_ready,
          s.log_only,
          s.epoch_map,
          s.policy,
          s.not_held,
          {}};
}

void ReplicaNode::release_everything(std::vector<MemberRecord> unfenced) {
  CHECK(fenced());
  impl_->release_all = true;
  impl_->promotion_ticket = impl_->keeper.change([&](State& s) { s.unfenced = std::move(unfenced); });
}

bool ReplicaNode::released() const { return impl_->release_all; }
void ReplicaNode::mark_promoted() {
  impl_->promotion_ticket = impl_->keeper.change([](State& s) { s.promoted = true; });
}

std::expected<void, Error> ReplicaNode::member_fenced(const Evidence& member) {
  Impl& n = *impl_;
  const Promise& promise = n.state().promise;
  const auto refuse = [&](std::string what, std::string remedy) {
    return std::unexpected(
        Error{ExitCode::kRefused, std::move(what), "promotion of " + n.options.name, std::move(remedy)});
  };
  const std::string fence_it = fmt::format("fence it: slipstream fence -c FILE --candidate {} --term {}, on {}",
                                           n.options.name, promise.epoch.term, member.name);
  if (promise.candidate != n.options.name)
    return refuse(fmt::format("{} is not being promoted", n.options.name), "give this to the member that was");
  if (member.system != n.state().system)
    return refuse(fmt::format("the evidence of {} is of another cluster", member.name), fence_it);
  if (member.promise.candidate != n.options.name || member.promise.epoch.term != promise.epoch.term)
    return refuse(
        fmt::format("{} has promised term {} to {}, not term {} to {}", member.name, member.promise.epoch.term,
                    member.promise.candidate.empty() ? "a running primary" : member.promise.candidate,
                    promise.epoch.term, n.options.name),
        fence_it);
  const auto same_log = [&](const MemberRecord& each) { return each.log_id == member.log_id; };
  const auto same_name = [&](const MemberRecord& each) { return each.name == member.name; };
  const auto& unfenced = n.state().unfenced;
  if (std::ranges::none_of(unfenced, same_log) && std::ranges::any_of(unfenced, same_name))
    return refuse(
        fmt::format("this is the evidence of another log of {} than the one that was a member", member.name),
        fmt::format("fence the member's own directory; if that is gone for good: --destroyed {}", member.name));
  n.promotion_ticket = n.keeper.change([&](State& s) { std::erase_if(s.unfenced, same_log); });
  return {};
}

std::expected<void, Error> ReplicaNode::member_destroyed(const std::string& name) {
  Impl& n = *impl_;
  const auto same_name = [&](const MemberRecord& each) { return each.name == name; };
  if (std::ranges::none_of(n.state().unfenced, same_name))
    return std::unexpected(Error{ExitCode::kRefused,
                                 fmt::format("{} is not among the members still to be fenced", name),
                                 "promotion of " + n.options.name, "slipstream status names them"});
  n.promotion_ticket = n.keeper.change([&](State& s) { std::erase_if(s.unfenced, same_name); });
  return {};
}

bool ReplicaNode::promotion_durable() const { return impl_->keeper.durable(impl_->promotion_ticket); }

Snapshot ReplicaNode::snapshot(Instant) const {
  const Impl& n = *impl_;
  const State& s = n.state();
  Snapshot out{n.options.name, "replica", {}, {}, n.verdicts.view()};
  ReplicaSelfView& view = out.replica;
  if (s.promoted)
    view.state = "promoted";
  else if (!s.promise.candidate.empty())
    view.state = "fenced";
  else if (n.cutting())
    view.state = "cutting",
    view.reason = fmt::format("its log differs from the primary's from {} on, and is opened anew",
                              to_string(s.replacement->from));
  else if (n.log.no_space())
    view.state = "no_space",
    view.reason =
        "no room: the disk is full, or replica.keep_max is reached; nothing more is acknowledged until there is";
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
  if (s.promise.candidate == n.options.name)
    for (const MemberRecord& member : s.unfenced) view.unfenced.push_back(member.name);
  view.not_held = marks_beyond(s.not_held, n.log.durable_end()), view.feedback = n.standby_feedback;
  view.log_begin = s.log_begin, view.received_end = n.log.received_end(), view.synced_end = n.log.synced_end(),
  view.durable_end = n.log.durable_end();
  view.apply_awaited_end = n.log.apply_awaited_end();
  view.final_end = n.final_end, view.fed_end = release().fed_end, view.applied_end = n.applied_end(),
  view.primary_flushed_end = n.primary_flushed;
  view.standby_connected = n.standby_connected, view.standby_ready = s.standby_ready, view.log_only = s.log_only;
  view.bytes_received = n.bytes_before + (n.receiver ? n.receiver->counters().bytes_received : 0);
  view.bytes_duplicate = n.duplicate_before + (n.receiver ? n.receiver->counters().bytes_duplicate : 0);
  return out;
}

}  // namespace slipstream::node
