#include "node/policy_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace slipstream::node {
namespace {

ack::Policy parsed(const std::string& text, std::span<const ack::Member> members) {
  auto policy = ack::Policy::parse(text, members);
  CHECK(policy.has_value());  // Checked with the configuration, or before it was made durable.
  return std::move(*policy);
}

// A record is read by its own members' names; those configured now stand in where it names none yet.
ack::Policy parsed(const PolicyRecord& record, std::span<const ack::Member> replicas) {
  std::vector<ack::Member> members;
  for (const MemberRecord& each : record.members) members.push_back({each.id, each.name});
  for (const ack::Member& each : replicas)
    if (std::ranges::find(members, each.name, &ack::Member::name) == members.end()) members.push_back(each);
  return parsed(record.text, members);
}

bool same(const ack::Policy& a, const ack::Policy& b) {
  return std::ranges::equal(a.terms(), b.terms(), [](const ack::Policy::Term& x, const ack::Policy::Term& y) {
    return x.method == y.method && x.count == y.count && x.members == y.members;
  });
}

std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

template <class Members>
std::string name_of(NodeId id, const Members& members) {
  const auto it = std::ranges::find_if(members, [&](const auto& each) { return each.id == id; });
  CHECK(it != members.end());
  return quoted(it->name);
}

template <class Members>
std::string written_out(const ack::Policy& policy, const Members& members) {
  std::string text;
  for (const ack::Policy::Term& term : policy.terms()) {
    std::string names;
    for (const NodeId id : term.members) names += (names.empty() ? "" : ", ") + name_of(id, members);
    text += fmt::format("{}{} {} ({})", text.empty() ? "" : " AND ",
                        term.method == ack::Policy::Method::kAny ? "ANY" : "FIRST", term.count, names);
  }
  return text;
}

bool has_wildcard(const ack::Policy& policy) {
  return std::ranges::any_of(policy.terms(), &ack::Policy::Term::wildcard);
}

// The members that `policy` names, with the logs that are known of them.
std::vector<MemberRecord> members_of(const ack::Policy& policy, std::span<const ack::Member> replicas,
                                     std::span<const MemberRecord> known) {
  std::vector<MemberRecord> out;
  for (const ack::Member& each : replicas) {
    if (!policy.mentions(each.id)) continue;
    const auto it =
        std::ranges::find_if(known, [&](const MemberRecord& k) { return k.id == each.id && k.name == each.name; });
    out.push_back({each.name, each.id, it == known.end() ? LogId{} : it->log_id});
  }
  return out;
}

std::vector<MemberRecord> merged(std::vector<MemberRecord> members, std::span<const MemberRecord> more) {
  for (const MemberRecord& each : more)
    if (std::ranges::find(members, each.name, &MemberRecord::name) == members.end()) members.push_back(each);
  return members;
}

std::uint64_t part(std::uint32_t number, int bits) {
  return std::min<std::uint64_t>(number, (std::uint64_t{1} << bits) - 1);
}

std::string both(const std::string& a, const std::string& b) { return a.empty() ? b : b.empty() ? a : a + " AND " + b; }

}  // namespace

std::uint64_t next_policy_version(std::uint64_t latest, Epoch epoch) {
  return std::max(latest + 1, part(std::max(epoch.term, 1u), 24) << 40 | part(epoch.incarnation, 24) << 16);
}

Epoch epoch_of_policy_version(std::uint64_t version) {
  return {static_cast<std::uint32_t>(version >> 40), static_cast<std::uint32_t>(version >> 16 & 0xffffff)};
}

PolicyBook::PolicyBook(StateKeeper& keeper, std::span<const ack::Member> replicas, const std::string& text)
    : keeper_(keeper),
      first_incarnation_(keeper.state().own_epoch.incarnation + 1),
      in_force_(parsed(text, replicas)),
      not_held_told_(keeper.state().not_held) {
  const ack::Policy configured = in_force_;
  const std::string configured_text = has_wildcard(configured) ? written_out(configured, replicas) : text;
  const State& state = keeper_.state();
  if (state.policy.version == 0) {
    ticket_ = keeper_.change(
        [&](State& s) { s.policy = {next_version(), configured_text, members_of(configured, replicas, {})}; });
    told_ = latest();
    return;
  }
  in_force_ = parsed(state.policy, replicas);
  std::optional<ack::Policy> pending;
  if (state.pending_policy) pending = parsed(*state.pending_policy, replicas);
  const bool unchanged = same(pending ? *pending : in_force_, configured);
  if (unchanged) {
    renew();
  } else {
    // An unfinished change was told to some: what it asks for holds on, until the third is durable on replicas that
    // satisfy all.
    ticket_ = keeper_.change([&](State& s) {
      PolicyRecord record{next_version(), configured_text, members_of(configured, replicas, latest().members)};
      if (pending) {
        s.policy.members =
            merged(merged(s.policy.members, s.pending_policy->members), members_of(*pending, replicas, {}));
        s.policy.members = merged(s.policy.members, members_of(in_force_, replicas, {}));
        s.policy.text = both(written_out(in_force_, s.policy.members), written_out(*pending, s.policy.members));
      }
      s.pending_policy = std::move(record);
    });
    in_force_ = parsed(keeper_.state().policy, replicas);
  }
  if (pending || !unchanged) next_ = configured;
  told_ = latest();
}

std::uint64_t PolicyBook::next_version() const {
  const Epoch own = keeper_.state().own_epoch;
  return next_policy_version(latest().version, {own.term, std::max(own.incarnation, first_incarnation_)});
}

template <class Change>
void PolicyBook::change_latest(Change&& change) {
  ticket_ = keeper_.change([&](State& s) { change(s.pending_policy ? *s.pending_policy : s.policy, s.not_held); });
}

void PolicyBook::open_mark(Lsn begin) {
  change_latest(
      [&](PolicyRecord& record, Marks& marks) { record.version = next_version(), node::open_mark(marks, begin); });
}

void PolicyBook::close_mark(Lsn end) {
  change_latest(
      [&](PolicyRecord& record, Marks& marks) { record.version = next_version(), node::close_mark(marks, end); });
}

void PolicyBook::drop_marks(Lsn held_end) {
  if (not_held().empty() || not_held().front().end > held_end) return;
  change_latest([&](PolicyRecord& record, Marks& marks) {
    record.version = next_version(), marks = marks_beyond(marks, held_end);
  });
}

void PolicyBook::admit(const ack::Member& member, LogId log) {
  const auto it = std::ranges::find(latest().members, member.id, &MemberRecord::id);
  if (it != latest().members.end() && it->log_id == log) return;
  change_latest([&](PolicyRecord& record, Marks&) {
    record.version = next_version();
    const auto own = std::ranges::find(record.members, member.id, &MemberRecord::id);
    if (own == record.members.end())
      record.members.push_back({member.name, member.id, log});
    else
      own->log_id = log;
  });
}

bool PolicyBook::outbid(std::uint64_t version) {
  if (version <= latest().version) return false;
  change_latest([&](PolicyRecord& record, Marks&) { record.version = std::max(version + 1, next_version()); });
  return true;
}

void PolicyBook::renew() {
  change_latest([&](PolicyRecord& record, Marks&) { record.version = next_version(); });
}

bool PolicyBook::on_persisted() {
  if (!keeper_.durable(ticket_) || told_ == latest()) return false;
  told_ = latest();
  not_held_told_ = not_held();
  return true;
}

bool PolicyBook::finish_if_met(std::span<const ack::ReplicaAcks> acks) {
  if (!next_ || told_ != latest() || !keeper_.durable(ticket_)) return false;
  const auto met = [&](const ack::Policy& policy) {
    return policy.empty() || ack::committed(policy, acks, ack::Level::kDurable).has_value();
  };
  if (!met(in_force_) || !met(*next_)) return false;
  keeper_.change([](State& s) {
    s.policy = *s.pending_policy;
    s.pending_policy.reset();
  });
  in_force_ = *next_;
  next_.reset();
  return true;
}

}  // namespace slipstream::node
