#include "app/promotion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <stdexcept>

#include "ack/quorum.h"
#include "app/log_order.h"
#include "node/policy_book.h"

namespace slipstream::app {
namespace {

Epoch epoch_of(const Json& term, const Json& incarnation) {
  return {whole<std::uint32_t>(term), whole<std::uint32_t>(incarnation)};
}

SystemId system_of(const std::string& text) {
  SystemId out;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), out.value);
  if (problem != std::errc{} || end != text.data() + text.size()) throw std::invalid_argument("bad system identifier");
  return out;
}

Error refused(std::string what, std::string remedy) {
  return {ExitCode::kRefused, std::move(what), "promote", std::move(remedy)};
}

std::optional<Error> check_same_history(const node::Evidence& own, const node::Evidence& other) {
  if (other.system != own.system)
    return refused(fmt::format("the evidence of {} is of another cluster (system identifier {}, here {})", other.name,
                               other.system.value, own.system.value),
                   "take the evidence of this cluster's members");
  if (other.promise.epoch.term != own.promise.epoch.term || other.promise.candidate != own.name)
    return refused(fmt::format("{} has promised term {} to {}, not term {} to {}", other.name, other.promise.epoch.term,
                               other.promise.candidate.empty() ? "a running primary" : other.promise.candidate,
                               own.promise.epoch.term, own.name),
                   fmt::format("fence it for this promotion: slipstream fence --term {} --candidate {}, on {}; "
                               "--supersede if the other promotion was given up",
                               own.promise.epoch.term, own.name, other.name));
  return std::nullopt;
}

// Whoever was told the latest policy holds all that was flushed when its epoch began; so who holds more without having
// adopted that epoch was told its own policy by another life of the primary, whose state directory was put back from a
// copy (E1). The version says nothing of which of the two acknowledged commits last.
std::vector<const node::Evidence*> who_speaks_of_policies(std::span<const node::Evidence* const> members) {
  std::uint64_t latest = 0;
  for (const node::Evidence* each : members) latest = std::max(latest, each->policy.version);
  Lsn held{};
  for (const node::Evidence* each : members)
    if (each->policy.version == latest) held = std::max(held, each->durable_end);
  std::vector<const node::Evidence*> out;
  for (const node::Evidence* each : members)
    if (each->policy.version == latest ||
        (each->held_epoch < node::epoch_of_policy_version(latest) && each->durable_end > held))
      out.push_back(each);
  return out;
}

node::Marks joined_marks(std::span<const node::Evidence* const> members) {
  node::Marks out;
  for (const node::Evidence* each : who_speaks_of_policies(members))
    out = node::joined_marks(std::move(out), each->not_held);
  return out;
}

// What a mark means for a log that ends at `end`.
std::string meaning(const LsnRange& mark, Lsn end) {
  const LsnRange missing{std::max(mark.begin, end), mark.end};
  return fmt::format(
      "{} may be missing, since synchronous_standby_names did not always contain slipstream {}: PostgreSQL let them "
      "return without a replica",
      node::describe_mark(missing), mark.end == node::kOpenEnd ? "when the primary was last heard of" : "then");
}

void add_sentence(std::string& text, const std::string& more) { text += (text.empty() ? "" : "; ") + more; }

bool has_standby(const node::Evidence& member) { return !member.log_only && member.standby_ready; }

// What to do when `best` is better than `own` (P4).
std::string remedy_for_better(const node::Evidence& own, const node::Evidence& best) {
  const std::string adopt = fmt::format(
      "stop the daemon of {}, adopt the log of {} there (slipstream adopt-log -c FILE --from DIR; DIR: its directory, "
      "or a copy of it), start the daemon and repeat",
      own.name, best.name);
  if (!has_standby(best)) return fmt::format("{} has no standby: {}", best.name, adopt);
  return fmt::format("promote {} instead", best.name) + (has_standby(own) ? "; or " + adopt : "");
}

// Whom a policy names, and who of them answered.
struct RollCall {
  std::vector<ack::Member> members;
  std::vector<NodeId> present;
  std::vector<std::string> present_names, missing;
};

// A log that the durable member list does not know (a directory made anew) is no recovery member (Q4).
RollCall call_roll(const node::PolicyRecord& record, std::span<const node::Evidence* const> all, PromotionPlan& plan) {
  RollCall out;
  for (const node::MemberRecord& member : record.members) {
    out.members.push_back({member.id, member.name});
    const auto answered = [&](const node::Evidence* e) { return e->id == member.id && e->log_id == member.log_id; };
    const auto is_here = [&](const node::Evidence* e) { return e->id == member.id; };
    if (std::ranges::any_of(all, answered)) {
      out.present.push_back(member.id), out.present_names.push_back(member.name);
      continue;
    }
    out.missing.push_back(
        std::ranges::none_of(all, is_here)
            ? member.name
            : fmt::format("{} with another directory (log id {})", member.name, to_string(member.log_id.value)));
    if (std::ranges::find(plan.missing, member.name) == plan.missing.end()) plan.missing.push_back(member.name);
    if (std::ranges::find(plan.unfenced, member) == plan.unfenced.end()) plan.unfenced.push_back(member);
  }
  return out;
}

std::string missing_in_words(const RollCall& roll) {
  const std::size_t n = roll.present.size();
  const std::string here = n == 0 ? "of the policy's members none is here"
                                  : fmt::format("of the policy's members only {} {} here",
                                                fmt::join(roll.present_names, ", "), n == 1 ? "is" : "are");
  return fmt::format("{}, and {} could have acknowledged commits without {}", here, fmt::join(roll.missing, ", "),
                     n == 1 ? "it" : "them");
}

std::string recovery_sets_in_words(const ack::Policy& policy, std::span<const ack::Member> members) {
  std::string out;
  for (const auto& set : ack::minimal_recovery_sets(policy, members)) {
    std::vector<std::string> names;
    for (const NodeId id : set) names.push_back(std::ranges::find(members, id, &ack::Member::id)->name);
    out += fmt::format("{}({})", out.empty() ? "" : " or ", fmt::join(names, ", "));
  }
  return out;
}

// (P1, P3)
std::optional<Error> check_recovers(const node::PolicyRecord& record, std::span<const node::Evidence* const> all,
                                    const PromotionOptions& options, PromotionPlan& plan) {
  const RollCall roll = call_roll(record, all, plan);
  const auto policy = ack::Policy::parse(record.text, roll.members);
  const bool promises = policy && !policy->empty();
  if (!promises || !ack::is_recovery_set(*policy, roll.present)) {
    const std::string why = record.version == 0         ? "no policy was ever made durable here"
                            : policy && policy->empty() ? "the policy is empty, so nothing was promised"
                                                        : missing_in_words(roll);
    if (!options.accept_loss) {
      const std::string sets = promises ? recovery_sets_in_words(*policy, roll.members) : "";
      return refused(fmt::format("no recovery set: {}", why),
                     fmt::format("fence the members of {} and give their evidence with --evidence "
                                 "FILE; or --accept-loss, which may lose acknowledged commits",
                                 sets.empty() ? "the cluster" : sets));
    }
    add_sentence(plan.may_be_missing,
                 fmt::format("{}: commits acknowledged after {} may be missing", why, to_string(plan.end)));
  }
  if (2 * roll.present.size() <= roll.members.size() && !options.sole_survivor && !options.accept_loss)
    return refused(
        fmt::format("{} of {} members are here: no majority, so a second promotion elsewhere could not be excluded",
                    roll.present.size(), roll.members.size()),
        fmt::format("bring evidence of {}; or --sole-survivor, if you are sure that none of them is promoted",
                    fmt::join(roll.missing, ", ")));
  return std::nullopt;
}

// (P4)
std::optional<Error> check_is_best(const node::Evidence& own, std::span<const node::Evidence> others,
                                   const PromotionOptions& options, PromotionPlan& plan) {
  const node::Evidence* best = &own;
  for (const node::Evidence& other : others) {
    const LogOrder order = order_of(own, other);
    if (order.better == LogOrder::Better::kSecond && (best == &own || better_log(other, *best))) best = &other;
    if (order.better != LogOrder::Better::kNeither) continue;
    if (!options.accept_loss)
      return refused(order.why_neither,
                     fmt::format("find out which log is right (slipstream verify, pg_waldump), and promote with the "
                                 "evidence of members that agree with it; or --accept-loss, which promotes {} as it is",
                                 own.name));
    add_sentence(plan.may_be_missing, order.why_neither);
  }
  if (best == &own) return std::nullopt;
  return refused(fmt::format("{} holds the better log (durable to {}, here {})", best->name,
                             to_string(best->durable_end), to_string(own.durable_end)),
                 remedy_for_better(own, *best));
}

}  // namespace

std::vector<node::PolicyRecord> binding_policies(std::span<const node::Evidence* const> members) {
  std::vector<node::PolicyRecord> out;
  for (const node::Evidence* each : who_speaks_of_policies(members)) {
    const auto same = [&](const node::PolicyRecord& other) {
      return other.text == each->policy.text && other.members == each->policy.members;
    };
    if (std::ranges::none_of(out, same)) out.push_back(each->policy);
  }
  return out;
}

Json members_json(const std::vector<node::MemberRecord>& members) {
  Json out = Json::array();
  for (const auto& member : members)
    out.push_back({{"name", member.name}, {"number", member.id.value}, {"log_id", to_string(member.log_id.value)}});
  return out;
}

Json ranges_json(std::span<const LsnRange> ranges) {
  Json out = Json::array();
  for (const LsnRange& range : ranges) out.push_back({to_string(range.begin), to_string(range.end)});
  return out;
}

std::expected<std::vector<LsnRange>, Error> parse_ranges(const Json& json) {
  std::vector<LsnRange> out;
  const auto lsn = [](const Json& each, std::size_t i) {
    return each.is_array() && each.size() == 2 && each[i].is_string() ? parse_lsn(each[i].get<std::string>())
                                                                      : std::nullopt;
  };
  for (const Json& each : json) {
    const auto begin = lsn(each, 0), end = lsn(each, 1);
    if (!begin || !end || *end < *begin)
      return std::unexpected(Error{ExitCode::kUsage, "not a list of ranges", "", "two positions each, in order"});
    out.push_back({*begin, *end});
  }
  return out;
}

Json marks_json(const node::Marks& marks) {
  Json out = Json::array();
  for (const LsnRange& mark : marks)
    out.push_back(
        {{"from", to_string(mark.begin)}, {"to", mark.end == node::kOpenEnd ? Json() : Json(to_string(mark.end))}});
  return out;
}

std::expected<std::vector<node::MemberRecord>, Error> parse_members(const Json& json) {
  const auto bad = [] {
    return std::unexpected(Error{ExitCode::kUsage, "not a list of members", "", "name, number and log_id of each"});
  };
  if (!json.is_array()) return bad();
  std::vector<node::MemberRecord> out;
  for (const Json& each : json) {
    if (!each.is_object() || !each.contains("name") || !each["name"].is_string() || !each.contains("log_id") ||
        !each["log_id"].is_string() || !each.contains("number") || !each["number"].is_number_unsigned() ||
        each["number"].get<std::uint64_t>() > std::numeric_limits<std::uint16_t>::max())
      return bad();
    const auto log_id = parse_random128(each["log_id"].get<std::string>());
    if (!log_id) return bad();
    out.push_back({each["name"], NodeId{each["number"].get<std::uint16_t>()}, LogId{*log_id}});
  }
  return out;
}

Json evidence_json(const node::Evidence& e) {
  Json map = Json::array(), blocks = Json::array();
  for (const auto& entry : e.epoch_map)
    map.push_back({{"term", entry.epoch.term},
                   {"incarnation", entry.epoch.incarnation},
                   {"begin", to_string(entry.begin)},
                   {"timeline", entry.timeline.value},
                   {"identity", to_string(entry.identity.value)}});
  for (const auto& block : e.blocks)
    blocks.push_back({to_string(block.range.begin), to_string(block.range.end),
                      to_string(Random128{block.digest.high, block.digest.low})});
  return {
      {"format", "slipstream evidence 1"},
      {"name", e.name},
      {"number", e.id.value},
      {"log_id", to_string(e.log_id.value)},
      {"system", std::to_string(e.system.value)},
      {"timeline", e.timeline.value},
      {"promised_term", e.promise.epoch.term},
      {"promised_incarnation", e.promise.epoch.incarnation},
      {"promised_identity", to_string(e.promise.identity.value)},
      {"promised_to", e.promise.candidate},
      {"held_term", e.held_epoch.term},
      {"held_incarnation", e.held_epoch.incarnation},
      {"counted_end", to_string(e.counted_end)},
      {"log_begin", to_string(e.log_begin)},
      {"durable_end", to_string(e.durable_end)},
      {"final_end", to_string(e.final_end)},
      {"standby_ready", e.standby_ready},
      {"log_only", e.log_only},
      {"epoch_map", map},
      {"not_held", marks_json(e.not_held)},
      {"policy", {{"version", e.policy.version}, {"text", e.policy.text}, {"members", members_json(e.policy.members)}}},
      {"blocks", blocks}};
}

std::expected<node::Evidence, Error> parse_evidence(const Json& json, const std::string& where) {
  const auto bad = [&](const std::string& what) {
    return std::unexpected(Error{ExitCode::kUsage, what, where,
                                 "give files that `slipstream fence` or `slipstream position --json` wrote"});
  };
  const auto format = json.is_object() ? json.find("format") : json.end();
  if (format == json.end() || *format != "slipstream evidence 1") return bad("not an evidence file");
  const auto lsn = [](const Json& value) {
    const auto parsed = parse_lsn(value.get<std::string>());
    if (!parsed) throw std::invalid_argument("bad position");
    return *parsed;
  };
  const auto bits = [](const Json& value) {
    const auto parsed = parse_random128(value.get<std::string>());
    if (!parsed) throw std::invalid_argument("bad identity");
    return *parsed;
  };
  try {
    node::Evidence e;
    e.name = json.at("name");
    e.id = NodeId{whole<std::uint16_t>(json.at("number"))};
    e.log_id = LogId{bits(json.at("log_id"))};
    e.system = system_of(json.at("system"));
    e.timeline = TimelineId{whole<std::uint32_t>(json.at("timeline"))};
    e.promise = {epoch_of(json.at("promised_term"), json.at("promised_incarnation")),
                 Identity{bits(json.at("promised_identity"))}, json.at("promised_to")};
    e.held_epoch = epoch_of(json.at("held_term"), json.at("held_incarnation"));
    e.counted_end = lsn(json.at("counted_end"));
    e.log_begin = lsn(json.at("log_begin"));
    e.durable_end = lsn(json.at("durable_end"));
    e.final_end = lsn(json.at("final_end"));
    e.standby_ready = json.at("standby_ready");
    e.log_only = json.at("log_only");
    for (const Json& entry : json.at("epoch_map"))
      e.epoch_map.push_back({epoch_of(entry.at("term"), entry.at("incarnation")), lsn(entry.at("begin")),
                             TimelineId{whole<std::uint32_t>(entry.at("timeline"))},
                             Identity{bits(entry.at("identity"))}});
    for (const Json& mark : json.value("not_held", Json::array()))
      e.not_held.push_back({lsn(mark.at("from")), mark.at("to").is_null() ? node::kOpenEnd : lsn(mark.at("to"))});
    const Json& policy = json.at("policy");
    e.policy.version = whole<std::uint64_t>(policy.at("version"));
    e.policy.text = policy.at("text");
    for (const Json& member : policy.at("members"))
      e.policy.members.push_back(
          {member.at("name"), NodeId{whole<std::uint16_t>(member.at("number"))}, LogId{bits(member.at("log_id"))}});
    for (const Json& block : json.at("blocks")) {
      const Random128 digest = bits(block.at(2));
      e.blocks.push_back({{lsn(block.at(0)), lsn(block.at(1))}, {digest.high, digest.low}});
    }
    return e;
  } catch (const std::exception& problem) {
    return bad(fmt::format("damaged evidence: {}", problem.what()));
  }
}

std::expected<node::Evidence, Error> read_evidence(const std::string& file) {
  std::ifstream in(file);
  if (!in)
    return std::unexpected(
        Error{ExitCode::kUsage, "cannot read the evidence", file, "name a file that slipstream fence wrote"});
  return parse_evidence(Json::parse(in, nullptr, false), file);
}

std::expected<PromotionPlan, Error> plan_promotion(const node::Evidence& own, std::span<const node::Evidence> others,
                                                   const PromotionOptions& options) {
  PromotionPlan plan{own.promise.epoch.term, own.durable_end, {own.name}, {}, {}, {}, ""};
  for (const node::Evidence& other : others) {
    if (other.log_id == own.log_id || std::ranges::count(plan.present, other.name))
      return std::unexpected(
          refused(fmt::format("the evidence of {} was given twice", other.name), "give each member's evidence once"));
    if (auto problem = check_same_history(own, other)) return std::unexpected(*problem);
    plan.present.push_back(other.name);
  }

  std::vector<const node::Evidence*> all{&own};
  for (const node::Evidence& other : others) all.push_back(&other);
  const std::vector<node::PolicyRecord> policies = binding_policies(all);
  for (const node::PolicyRecord& record : policies)
    if (auto problem = check_recovers(record, all, options, plan)) {
      if (policies.size() > 1)
        problem->what += fmt::format(" (members were told {} different policies: by each they must be a recovery set)",
                                     policies.size());
      return std::unexpected(*problem);
    }
  if (auto problem = check_is_best(own, others, options, plan)) return std::unexpected(*problem);
  if (!has_standby(own))
    return std::unexpected(refused(fmt::format("{} has no standby that can start from its log", own.name),
                                   "promote a member that has one: fence all for it (--supersede), and let it adopt "
                                   "this log first (slipstream adopt-log -c FILE --from DIR)"));
  plan.not_held = node::marks_beyond(joined_marks(all), plan.end);
  for (const LsnRange& mark : plan.not_held) add_sentence(plan.may_be_missing, meaning(mark, plan.end));
  return plan;
}

}  // namespace slipstream::app
