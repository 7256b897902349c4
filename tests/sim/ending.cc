#include <fmt/format.h>

#include <algorithm>

#include "ack/quorum.h"
#include "app/log_order.h"
#include "app/promotion.h"
#include "tests/sim/world.h"

namespace slipstream::sim {
namespace {

constexpr std::uint64_t kEvidenceBelowFinal = 256 * wal::kBlockBytes;

}  // namespace

bool World::caught_up() const {
  const Lsn end = postgres_.flushed_end();
  if (!primary_->node || postgres_.end() != end || postgres_.waiting() > 0) return false;
  for (std::size_t i = 0; i < replicas_.size(); ++i)
    if (checkers_->survives(i) != end || (!profile.setups[i].log_only && replicas_[i]->standby.applied() != end))
      return false;
  return true;
}

std::string World::what_is_missing() const {
  std::string text =
      fmt::format("the server is at {}, {} clients wait", to_string(postgres_.flushed_end()), postgres_.waiting());
  if (!primary_->node) return text + ", no primary runs";
  const auto view = primary_->node->snapshot(scheduler.now()).primary;
  text += fmt::format("; the primary is {} {} in {}, confirmed {}", view.state, view.reason, to_string(view.epoch),
                      to_string(view.confirmed_end));
  for (std::size_t i = 0; i < replicas_.size(); ++i) {
    const auto& seen = view.replicas[i];
    text +=
        fmt::format("; {} holds {}, its standby {}, is {} {} counts {}", seen.name, to_string(checkers_->survives(i)),
                    to_string(replicas_[i]->standby.applied()), seen.state, seen.reason, seen.counts);
    if (replicas_[i]->node) {
      const auto self = replicas_[i]->node->snapshot(scheduler.now()).replica;
      text += fmt::format(" (itself: {} {}, promised {}, holds {}", self.state, self.reason,
                          to_string(self.promised_epoch), to_string(self.held_epoch));
      for (const auto& [verdict, count] : replicas_[i]->node->snapshot(scheduler.now()).verdicts)
        text += fmt::format(", {} {}", count, verdict);
      text += ")";
    }
  }
  return text;
}

// A frame that came late counts as lost: whoever waited could not know. Where frames are sealed, those under the keys
// of a process that is gone are lost too, and those sent before keys were agreed on: whatever was given to one port and
// not heard by the other.
void World::look_at_repairs() {
  constexpr std::uint64_t kAllowed = 64u << 10;  // What answers that were lost cost.
  counts.note(Check::kRepairsBounded);
  const std::uint64_t resent = primary_->bytes_resent();
  const std::uint64_t lost =
      sealed_ ? network_.bytes_given - network_.bytes_heard + network_.bytes_late : network_.bytes_lost;
  trace.say("seed", "{} bytes were lost, {} sent again", lost, resent);
  if (network_.bytes_heard > network_.bytes_given) trace.fail("sealed data was heard twice");
  if (resent > 2 * lost + kAllowed) trace.fail("{} bytes were sent again, {} were lost", resent, lost);
}

void World::end_healed() {
  network_.heal();
  network_.frame_bytes_max = profile.frame_bytes;
  primary_->port.set_full(0);
  primary_->disk.error = primary_->disk.spoiled = 0;
  postgres_.stop_clients();
  for (auto& host : replicas_) {
    host->port.set_full(0);
    host->disk.error = 0;
    host->disk.stall = {}, host->disk.no_space = false;
    host->pause(false);
    host->start();
  }
  run_for(milliseconds(150));  // A server that is stopping has stopped.
  if (primary_->paused()) primary_->pause(false);
  primary_->start(policy_);
  postgres_.start_again();
  const bool well = until(seconds(20), [this] {
    make_anew_whose_wal_is_gone();
    return caught_up();
  });
  if (trace.failed()) return;
  counts.note(Check::kCaughtUp);
  if (!well) trace.fail("20 s after all was healed: {}", what_is_missing());
}

// What a restored log lacks, or what it is to be compared with, may be removed at the server. The operator is told so,
// and makes it anew.
void World::make_anew_whose_wal_is_gone() {
  for (std::size_t i = 0; i < replicas_.size(); ++i) {
    if (((restored_states_ | restored_logs_) >> i & 1) == 0 || !replicas_[i]->running()) continue;
    const Lsn compared_from = std::min(checkers_->durable_state(i).final_end, checkers_->survives(i));
    if (compared_from >= postgres_.kept_from()) continue;
    make_anew(i);
    replicas_[i]->start();
  }
}

// With digests of what the others hold too, as the candidate's daemon adds them.
std::vector<node::Evidence> World::evidence_of(const std::vector<std::size_t>& members) const {
  std::vector<node::Evidence> out;
  for (const std::size_t i : members) out.push_back(evidence_of(i));
  const auto compared = app::compared_ranges(out);
  for (std::size_t k = 0; k < members.size(); ++k)
    for (const LsnRange& range : app::missing_ranges(out[k], compared))
      out[k].blocks.push_back({range, xxh3_128(replicas_[members[k]]->disk.visible().subspan(
                                          (range.begin - kOrigin).value, range.size().value))});
  return out;
}

node::Evidence World::evidence_of(std::size_t replica) const {
  ReplicaHost& host = *replicas_[replica];
  node::Evidence evidence = host.node->evidence();
  const std::uint64_t block = align_down(evidence.final_end, wal::kBlockBytes).value;
  const Lsn begin = std::max(evidence.log_begin, Lsn{block > kEvidenceBelowFinal ? block - kEvidenceBelowFinal : 0});
  for (Lsn at = begin; at < evidence.durable_end;) {
    const Lsn end = std::min(evidence.durable_end, align_down(at, wal::kBlockBytes) + ByteCount{wal::kBlockBytes});
    const auto bytes = host.disk.visible().subspan((at - kOrigin).value, (end - at).value);
    evidence.blocks.push_back({{at, end}, xxh3_128(bytes)});
    at = end;
  }
  return evidence;
}

bool World::fence(const std::vector<std::size_t>& members, std::size_t candidate, std::uint32_t term, bool supersede) {
  for (const std::size_t i : members) {
    // While it cuts its log it says so, and to repeat it.
    until(seconds(1), [&] {
      return replicas_[i]->node && replicas_[i]->node->snapshot(scheduler.now()).replica.state != "cutting";
    });
    const auto done = replicas_[i]->node->fence(term, members_[candidate].name, supersede, scheduler.now());
    if (!done) {
      trace.fail("{} refuses the fence: {}", members_[i].name, done.error().message());
      return false;
    }
  }
  const bool fenced = until(seconds(10), [&] {
    return std::ranges::all_of(members,
                               [&](std::size_t i) { return replicas_[i]->node && replicas_[i]->node->fenced(); });
  });
  if (!fenced) trace.fail("the fence was not done within 10 s");
  return fenced && !trace.failed();
}

void World::end_without_primary(bool cut_off) {
  counts.note(cut_off ? Fault::kPrimaryCutOff : Fault::kPrimaryGone);
  trace.note("seed", "ends without the primary", cut_off);
  if (!cut_off) {
    primary_->crash();
    primary_->gone = postgres_.gone = true;
    postgres_.crash();
  }
  // The minimal sets that would be promoted from now, of which one is left.
  const std::uint32_t promotable = checkers_->promotable();
  std::vector<std::uint32_t> sets;
  for (std::uint32_t set = 1; set < 32 && promotable >> set != 0; ++set) {
    const auto smaller_is_one = [&](std::uint32_t bit) {
      return (set & bit) != 0 && (promotable >> (set & ~bit) & 1) != 0;
    };
    if ((promotable >> set & 1) != 0 && !smaller_is_one(1) && !smaller_is_one(2) && !smaller_is_one(4))
      sets.push_back(set);
  }
  if (sets.empty()) return trace.note("seed", "no recovery set");
  const std::uint32_t chosen = random_.one_of(sets);
  std::vector<std::size_t> members;
  for (std::size_t i = 0; i < replicas_.size(); ++i) {
    ReplicaHost& host = *replicas_[i];
    if ((chosen >> i & 1) != 0) {
      members.push_back(i);
      host.disk.stall = {}, host.disk.no_space = false, host.disk.error = 0;
      if (random_.chance(0.3)) host.lose_power();
    } else if (!cut_off) {
      host.lose_power();
    }
  }
  run_for(random_.between({0}, milliseconds(30)));
  for (const std::size_t i : members) {
    if (replicas_[i]->paused()) replicas_[i]->pause(false);
    replicas_[i]->start();
  }
  if (!trace.failed()) promote(members);
}

// Still: with its promise a member makes durable what policy it was told last, perhaps one that needs more of them.
bool World::is_recovery_set(const std::vector<std::size_t>& members) const {
  std::uint32_t set = 0;
  for (const std::size_t i : members) set |= 1u << i;
  return (checkers_->promotable() >> set & 1) != 0;
}

void World::promote(std::vector<std::size_t> members) {
  std::uint32_t term = 0;
  for (const std::size_t i : members) term = std::max(term, replicas_[i]->node->evidence().promise.epoch.term + 1);
  std::size_t candidate = random_.one_of(members);
  if (!fence(members, candidate, term, false)) return;
  std::vector<node::Evidence> evidence = evidence_of(members);
  std::size_t best = 0;
  for (std::size_t i = 1; i < members.size(); ++i)
    if (app::better_log(evidence[i], evidence[best])) best = i;
  if (members[best] != candidate) {
    candidate = members[best];
    if (!fence(members, candidate, ++term, true)) return;
    evidence = evidence_of(members);
  }
  const node::Evidence own = evidence[best];
  evidence.erase(evidence.begin() + static_cast<std::ptrdiff_t>(best));
  const auto plan = app::plan_promotion(own, evidence, {.sole_survivor = true, .accept_loss = false});
  const Lsn claimed = std::max(checkers_->claimed_durable(), checkers_->claimed_received());
  if (plan) {
    trace.note("seed", "promotes", plan->end.value, claimed.value);
    if (plan->end < claimed)
      trace.fail("promoted at {}, commits to {} may be acknowledged", to_string(plan->end), to_string(claimed));
  } else if (own.standby_ready && !own.log_only && is_recovery_set(members)) {
    trace.fail("a recovery set is not promoted from: {}", plan.error().message());
  }
  counts.note(Check::kPromotion);
  if (trace.failed() || !plan) return;
  // The rest of the world goes on, perhaps with the old primary: nothing more may be acknowledged than was promoted.
  checkers_->stop_claiming_fed();
  replicas_[candidate]->node->release_everything();
  network_.heal();
  for (auto& host : replicas_)
    if (!host->running()) host->start();
  if (profile.end == Profile::End::kCutOff) {
    if (primary_->paused()) primary_->pause(false);
    primary_->start(policy_);
    run_for(milliseconds(200));
    postgres_.start_again();
  }
  const bool fed = until(seconds(5), [&] { return replicas_[candidate]->standby.applied() >= plan->end; });
  if (!trace.failed() && !fed)
    trace.fail("the standby of {} was not fed to {}, only to {}", members_[candidate].name, to_string(plan->end),
               to_string(replicas_[candidate]->standby.applied()));
  run_for(milliseconds(1500));
  const Lsn later = std::max(checkers_->claimed_durable(), checkers_->claimed_received());
  if (!trace.failed() && later > plan->end)
    trace.fail("after the promotion at {} the old primary went on to {}", to_string(plan->end), to_string(later));
}

}  // namespace slipstream::sim
