#include "tests/sim/checkers.h"

#include <algorithm>
#include <cstring>

#include "ack/quorum.h"
#include "app/promotion.h"

namespace slipstream::sim {
namespace {

constexpr Epoch kNotYet{UINT32_MAX, UINT32_MAX};

class DurableSource : public wal::SegmentSource {
 public:
  explicit DurableSource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::size_t read(Lsn at, std::span<std::byte> out) override {
    const std::size_t from = (at - kOrigin).value;
    if (from >= bytes_.size()) return 0;
    const auto part = bytes_.subspan(from, std::min(out.size(), bytes_.size() - from));
    std::ranges::copy(part, out.begin());
    return part.size();
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace

Checkers::Checkers(Common common, Postgres& postgres, PrimaryHost& primary,
                   std::vector<std::unique_ptr<ReplicaHost>>& replicas)
    : common_(common), postgres_(postgres), primary_(primary), replicas_(replicas), shadows_(replicas.size()) {
  for (std::size_t i = 0; i < replicas_.size(); ++i) attach(i);
  primary_.disk.on_state_durable = [this] { on_primary_state(); };
  primary_.port.on_send = [this](std::span<const std::byte> bytes) { on_primary_frame(bytes); };
  primary_.on_report = [this](const node::Report& report) { on_report(report); };
  postgres_.on_reported = [this](const node::Report& report) { on_reported(report); };
  postgres_.on_commit = [this](Lsn end, ack::Level level) { on_commit(end, level); };
  primary_.on_connected = [this] { on_connected(); };
  postgres_.on_lost = [this](LsnRange lost) { on_lost(lost); };
}

void Checkers::attach(std::size_t i) {
  ReplicaHost& host = *replicas_[i];
  host.port.on_send = [this, i](std::span<const std::byte> bytes) { on_frame(i, bytes); };
  host.disk.on_submit = [this, i](LsnRange range) { on_submit(i, range); };
  host.disk.on_durable = [this, i](LsnRange range) { on_durable(i, range); };
  host.disk.on_state_durable = [this, i] { on_state(i); };
  host.standby.on_fed = [this, i](Lsn end) { on_fed(i, end); };
  host.on_recovered = [this, i](const wal::Recovered& recovered, const node::State&) { on_recovered(i, recovered); };
  host.on_died = [this, i] { on_died(i); };
}

// ---- What a power cut leaves

Lsn Checkers::first_difference(std::span<const std::byte> image, LsnRange range) const {
  const Lsn end = std::min({range.end, kOrigin + ByteCount{image.size()}, known_end()});
  for (Lsn at = range.begin; at < end;) {
    const Lsn stop = std::min(end, at + ByteCount{4096});
    const auto theirs = image.subspan((at - kOrigin).value, (stop - at).value);
    const auto ours = postgres_.bytes({at, stop});
    if (std::memcmp(theirs.data(), ours.data(), ours.size()) != 0)
      return at + ByteCount{static_cast<std::uint64_t>(std::ranges::mismatch(theirs, ours).in1 - theirs.begin())};
    at = stop;
  }
  return std::max(range.begin, end);
}

void Checkers::on_durable(std::size_t i, LsnRange range) {
  Shadow& s = shadows_[i];
  const auto image = replicas_[i]->disk.durable();
  const Lsn begin = std::max(range.begin, s.state->log_begin);
  if (begin < s.equal_end) s.equal_end = std::min(s.equal_end, first_difference(image, {begin, s.equal_end}));
  look_further(i);
}

void Checkers::look_further(std::size_t i) {
  Shadow& s = shadows_[i];
  s.equal_end = first_difference(replicas_[i]->disk.durable(), {s.equal_end, known_end()});
  s.survives = postgres_.record_floor(s.equal_end, s.state->log_begin);
  changed_ = true;
}

// The server's memory is gone with it: nobody is told any more of what it had not flushed.
void Checkers::on_lost(LsnRange lost) {
  const Lsn flushed = postgres_.record_floor(postgres_.flushed_end());
  claimed_durable_ = std::min(claimed_durable_, flushed);
  claimed_received_ = std::min(claimed_received_, flushed);
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    Shadow& s = shadows_[i];
    if (!s.state) continue;
    s.dead_tail = kNotYet;
    s.equal_end = std::min(s.equal_end, std::max(lost.begin, s.state->log_begin));
    s.survives = postgres_.record_floor(s.equal_end, s.state->log_begin);
    for (Lsn* each : {&s.ring_compared, &s.gone_received, &s.gone_durable, &s.gone_applied, &s.told_ever})
      *each = std::min(*each, lost.begin);
  }
  changed_ = true;
}

// The daemon takes it, and opens a later epoch than the one that it may be recording still.
void Checkers::on_connected() {
  Epoch before = primary_epoch_;
  if (primary_.node->snapshot(common_.now()).primary.state == "recording_epoch") ++before.incarnation;
  for (Shadow& s : shadows_)
    if (s.dead_tail == kNotYet) s.dead_tail = before;
}

void Checkers::on_state(std::size_t i) {
  Shadow& s = shadows_[i];
  auto state = node::decode_state(replicas_[i]->disk.state.durable(), "state");
  if (!state) return common_.trace.fail("replica {}: its durable state file is damaged", i);
  if (s.state && s.log_id == state->log_id && state->held_epoch < s.state->held_epoch && replicas_[i]->running())
    common_.trace.fail("{} went back to epoch {} from {}", replicas_[i]->member.name, to_string(state->held_epoch),
                       to_string(s.state->held_epoch));
  if (s.log_id != state->log_id) {
    const Lsn applied = replicas_[i]->standby.applied_ever();
    s = Shadow{.gone_received = std::max(s.gone_received, s.survives),
               .gone_durable = s.survives,
               .gone_applied = std::min(applied, s.survives),
               .dead_tail = s.dead_tail};  // What is shipped to it may be of before.
    s.equal_end = s.survives = state->log_begin;
    s.log_id = state->log_id;
  }
  s.state = std::move(*state);
  if (std::ranges::any_of(shadows_, [](const Shadow& each) { return !each.state; })) return;
  policies_differ_ = std::ranges::any_of(shadows_, [&](const Shadow& each) {
    return each.state->policy.text != s.state->policy.text || each.state->policy.members != s.state->policy.members;
  });
  find_promotable();
  changed_ = true;
}

void Checkers::find_promotable() {
  promotable_ = 0;
  for (std::uint32_t set = 1; set < 1u << shadows_.size(); ++set)
    if (is_promotable(set)) promotable_ |= 1u << set;
}

void Checkers::on_submit(std::size_t i, LsnRange range) {
  const Shadow& s = shadows_[i];
  // What an earlier process left behind what was ever told of durable is nobody's.
  const Lsn told = std::max(s.told_durable, s.received);
  const Lsn begin = std::max(range.begin, s.state->log_begin), end = std::min({range.end, s.survives, told});
  if (begin >= end) return;
  const auto theirs = replicas_[i]->disk.submitted.subspan((begin - range.begin).value, (end - begin).value);
  if (!check(Check::kWriteHarmless, std::ranges::equal(theirs, postgres_.bytes({begin, end}))))
    common_.trace.fail("{} writes other bytes over {}", replicas_[i]->member.name, to_string(LsnRange{begin, end}));
}

void Checkers::on_recovered(std::size_t i, const wal::Recovered& recovered) {
  Shadow& s = shadows_[i];
  if (s.dead_tail)
    s.told_durable = std::min(s.told_durable, recovered.durable_end), s.told_ever = std::min(s.told_ever, s.survives);
  const bool equal = first_difference(replicas_[i]->disk.visible(), {s.state->log_begin, recovered.durable_end}) >=
                     recovered.durable_end;
  if (!check(Check::kRecovery, recovered.durable_end >= s.survives && (equal || s.dead_tail)))
    common_.trace.fail("{} recovers to {}, {} survive; equal: {}", replicas_[i]->member.name,
                       to_string(recovered.durable_end), to_string(s.survives), equal);
}

wal::Recovered Checkers::recover(std::size_t i, std::span<const std::byte> image) const {
  const node::State& state = *shadows_[i].state;
  DurableSource source(image);
  const bool at_record = state.scan_begin_is_record && state.scan_begin >= state.log_begin;
  return wal::recover(source, wal::SegmentLayout(kSegmentSize), at_record ? state.scan_begin : state.log_begin,
                      at_record ? wal::Scanner::Start::kRecord : wal::Scanner::Start::kPage, {kSystem, {}});
}

void Checkers::look_at_damage(std::size_t i, Random& random) {
  const Shadow& s = shadows_[i];
  const Lsn begin = std::max(s.state->log_begin, s.state->scan_begin);
  if (s.survives < begin + ByteCount{2 * kSectorBytes}) return;
  const auto durable = replicas_[i]->disk.durable();
  std::vector<std::byte> image(durable.begin(), durable.end());
  const auto somewhere = [&] { return begin + ByteCount{random.below((s.survives - begin).value)}; };
  const auto index = [](Lsn at) { return static_cast<std::size_t>((at - kOrigin).value); };
  Lsn at = somewhere();
  std::size_t bytes = 1;
  if (random.chance(0.5)) {
    common_.counts.note(Fault::kBitRot);
    image[index(at)] ^= static_cast<std::byte>(1u << random.below(8));
  } else {  // A sector that was written here belongs there.
    common_.counts.note(Fault::kMisdirectedWrite);
    bytes = kSectorBytes;
    at = align_down(at, bytes);
    std::copy_n(durable.begin() + static_cast<std::ptrdiff_t>(index(align_down(somewhere(), bytes))), bytes,
                image.begin() + static_cast<std::ptrdiff_t>(index(at)));
  }
  Lsn first = s.survives;  // The first damaged byte that the log relies on.
  for (Lsn each = std::max(at, begin); each < std::min(at + ByteCount{bytes}, s.survives); each = each + ByteCount{1})
    if (first == s.survives && image[index(each)] != durable[index(each)] && postgres_.is_covered(each, begin))
      first = each;
  const Lsn found = recover(i, image).durable_end;
  if (!check(Check::kDamageNoticed, first == s.survives || found <= first))
    common_.trace.fail("{} would be recovered to {} although its log is damaged at {}", replicas_[i]->member.name,
                       to_string(found), to_string(first));
}

void Checkers::look_closely() {
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    const Shadow& s = shadows_[i];
    const auto image = replicas_[i]->disk.durable();
    const wal::Recovered found = recover(i, image);
    if (!check(Check::kRecovery, found.durable_end == s.survives || (s.dead_tail && found.durable_end > s.survives)))
      common_.trace.fail("after a power cut {} would hold {} ({}), but {} equal the server's WAL",
                         replicas_[i]->member.name, to_string(found.durable_end), wal::to_string(found.stopped_by),
                         to_string(s.survives));
    if (!check(Check::kWholeLogEqual, first_difference(image, {s.state->log_begin, s.survives}) >= s.survives))
      common_.trace.fail("{} differs from the server below {}", replicas_[i]->member.name, to_string(s.survives));
  }
}

void Checkers::on_died(std::size_t i) {
  Shadow& s = shadows_[i];
  s.gone_received = std::max(s.gone_received, s.received);
  s.received = s.ring_compared = {};
  s.session = {};
  s.told_final = s.state->final_end;  // It is persisted once in a while.
  claimed_received_ = std::min(claimed_received_, postgres_.record_floor(least_held(true)));  // R3
  changed_ = true;
}

bool Checkers::would_survive(std::size_t i, Lsn end) {
  const Lsn before = std::exchange(shadows_[i].survives, std::min(end, shadows_[i].survives));
  const bool holds =
      least_held(false) >= std::max(claimed_durable_, shadows_[i].told_ever) && least_held(true) >= claimed_received_;
  shadows_[i].survives = before;
  return holds;
}

Lsn Checkers::end_of(std::span<const std::byte> image, Lsn log_begin) const {
  return postgres_.record_floor(first_difference(image, {log_begin, known_end()}), log_begin);
}

void Checkers::forget(std::size_t i) {
  Shadow& s = shadows_[i];
  s.gone_received = std::max(s.gone_received, s.survives);
  s.gone_durable = std::max(s.gone_durable, s.survives);
  s.gone_applied = std::max(s.gone_applied, std::min(replicas_[i]->standby.applied_ever(), s.survives));
  s.epoch = {}, s.session = {};
  s.told_durable = s.told_final = {};
  std::erase_if(shipped_by_, [&](const auto& each) { return each.first.first == s.log_id; });
}

// ---- Acknowledgements (promise 1, 4, 5)

void Checkers::on_frame(std::size_t i, std::span<const std::byte> bytes) {
  protocol::Frame frame;
  if (protocol::decode(bytes, frame) != protocol::Verdict::kAccepted)
    return common_.trace.fail("{} sent a frame that does not decode", replicas_[i]->member.name);
  if (const auto* ack = std::get_if<protocol::Ack>(&frame.body)) on_ack(i, frame.header, *ack);
  if (const auto* welcome = std::get_if<protocol::Welcome>(&frame.body)) on_welcome(i, *welcome);
}

bool Checkers::equal_in_ring(std::size_t i, LsnRange range) const {
  for (Lsn at = range.begin; at < range.end;) {
    const Lsn stop = std::min(range.end, align_down(at, kRingBytes) + ByteCount{kRingBytes});
    if (!std::ranges::equal(replicas_[i]->ring({at, stop}), postgres_.bytes({at, stop}))) return false;
    at = stop;
  }
  return true;
}

void Checkers::on_ack(std::size_t i, const protocol::FrameHeader& header, const protocol::Ack& ack) {
  Shadow& s = shadows_[i];
  const std::string& name = replicas_[i]->member.name;
  common_.trace.note(name, "acknowledges", ack.received_end.value, ack.durable_end.value);
  const bool new_session = header.epoch != s.epoch || header.session != s.session;
  if (!check(Check::kMonotone,
             std::pair(header.epoch, new_session ? header.session : s.session) >= std::pair(s.epoch, s.session) &&
                 ack.durable_end >= s.told_durable && ack.final_end >= s.told_final &&
                 (new_session || ack.received_end >= s.received)))
    common_.trace.fail("{} acknowledges less than before: {} {} received {} durable {} final {}, before {} {} {} {} {}",
                       name, to_string(header.epoch), header.session.value, to_string(ack.received_end),
                       to_string(ack.durable_end), to_string(ack.final_end), to_string(s.epoch), s.session.value,
                       to_string(s.received), to_string(s.told_durable), to_string(s.told_final));
  if (new_session) s.ring_compared = {};
  // The server may have written again, byte for byte, what it had lost and the replica holds.
  if (s.dead_tail && header.epoch > *s.dead_tail) s.dead_tail.reset(), look_further(i);
  s.epoch = header.epoch, s.session = header.session;
  s.told_durable = ack.durable_end, s.told_final = ack.final_end;
  s.told_ever = std::max(s.told_ever, ack.durable_end);

  if (!check(Check::kAckDurable, ack.durable_end <= s.survives || s.dead_tail))
    common_.trace.fail("{} acknowledges {} as durable, but {} would survive", name, to_string(ack.durable_end),
                       to_string(s.survives));
  const Lsn compared = std::max({s.equal_end, s.ring_compared, s.state->log_begin});
  if (!check(Check::kAckReceived,
             s.dead_tail || ack.received_end <= compared ||
                 (ack.received_end <= known_end() && equal_in_ring(i, {compared, ack.received_end}))))
    common_.trace.fail("{} acknowledges {} as received, but holds other bytes", name, to_string(ack.received_end));
  const Lsn free_from = align_down(std::max(s.equal_end, s.state->log_begin), 4096);
  if (!check(Check::kWindowFits, s.dead_tail || ack.window_end <= free_from + ByteCount{kRingBytes}))
    common_.trace.fail("{} welcomes bytes to {}, but has written only to {}", name, to_string(ack.window_end),
                       to_string(s.equal_end));
  s.received = ack.received_end;
  s.ring_compared = std::max(s.ring_compared, ack.received_end);
  if (!replicas_[i]->setup.log_only &&
      !check(Check::kAckApplied, ack.applied_end <= replicas_[i]->standby.applied_ever()))
    common_.trace.fail("{} acknowledges {} as applied, its standby is at {}", name, to_string(ack.applied_end),
                       to_string(replicas_[i]->standby.applied_ever()));
  if (!check(Check::kAckRemembered, ack.policy_version <= s.state->policy.version &&
                                        header.epoch == s.state->held_epoch &&
                                        (!ack.standby_ready || s.state->standby_ready)))
    common_.trace.fail("{} tells of policy {}, epoch {}, standby {}; its state file of {}, {}, {}", name,
                       ack.policy_version, to_string(header.epoch), ack.standby_ready, s.state->policy.version,
                       to_string(s.state->held_epoch), s.state->standby_ready);
  if (!check(Check::kNothingOlder, header.epoch.term >= s.state->promise.epoch.term))
    common_.trace.fail("{} has promised term {} and acknowledges in {}", name, s.state->promise.epoch.term,
                       to_string(header.epoch));
  if (!check(Check::kFinalEqual, ack.final_end <= s.equal_end && ack.final_end <= postgres_.confirmed_end()))
    common_.trace.fail("{} calls {} final, equal to {}, confirmed to {}", name, to_string(ack.final_end),
                       to_string(s.equal_end), to_string(postgres_.confirmed_end()));
  changed_ = true;
}

void Checkers::on_welcome(std::size_t i, const protocol::Welcome& welcome) {
  Shadow& s = shadows_[i];
  const std::string& name = replicas_[i]->member.name;
  common_.trace.note(name, "welcomes", welcome.durable_end.value);
  if (!check(Check::kAckDurable, welcome.durable_end <= s.survives || s.dead_tail))
    common_.trace.fail("{} says that it holds {}, but {} would survive", name, to_string(welcome.durable_end),
                       to_string(s.survives));
  if (!check(Check::kAckReceived, welcome.durable_end >= postgres_.record_floor(s.received, s.state->log_begin)))
    common_.trace.fail("{} forgot what it acknowledged as received to {}", name, to_string(s.received));
  if (!check(Check::kMonotone, welcome.durable_end >= s.told_durable))
    common_.trace.fail("{} holds less than it acknowledged", name);
  s.received = welcome.durable_end;
  s.gone_received = s.gone_durable = s.gone_applied = {};
  changed_ = true;
}

void Checkers::on_fed(std::size_t i, Lsn end) {
  if (promoted_ && shadows_[i].dead_tail) return;  // All that it holds, though the server lost it unflushed.
  const Lsn limit = promoted_ ? shadows_[i].survives : std::min(shadows_[i].survives, postgres_.confirmed_end());
  if (!check(Check::kFedConfirmed, end <= limit))
    common_.trace.fail("{} feeds {}, but only {} are durable and confirmed", replicas_[i]->member.name, to_string(end),
                       to_string(limit));
  const std::vector<std::byte> fed = replicas_[i]->in_memory(end);
  if (promoted_ || fed.empty()) return;
  if (!check(Check::kFedEqual, std::ranges::equal(fed, postgres_.bytes({Lsn{end.value - fed.size()}, end}))))
    common_.trace.fail("{} feeds other bytes before {}", replicas_[i]->member.name, to_string(end));
}

// ---- What a primary says (E1, Q4)

void Checkers::on_primary_state() {
  const auto state = node::decode_state(primary_.disk.state.durable(), "state");
  if (!state) return common_.trace.fail("the primary's durable state file is damaged");
  primary_epoch_ = state->own_epoch;
}

void Checkers::on_primary_frame(std::span<const std::byte> bytes) {
  protocol::Frame frame;
  if (protocol::decode(bytes, frame) != protocol::Verdict::kAccepted)
    return common_.trace.fail("the primary sent a frame that does not decode");
  const Epoch epoch = frame.header.epoch;
  if (!check(Check::kUsedOnce, epoch <= primary_epoch_))
    common_.trace.fail("the primary speaks in {}, durable is {}", to_string(epoch), to_string(primary_epoch_));
  if (std::holds_alternative<protocol::Data>(frame.body)) {  // To a log that has adopted the epoch.
    const auto it =
        std::ranges::find(replicas_, frame.header.destination, [](const auto& host) { return host->member.id; });
    const Shadow& s = shadows_[static_cast<std::size_t>(it - replicas_.begin())];
    if (s.state->held_epoch != epoch) return;  // It was replaced by another meanwhile.
    const LogId log = s.log_id;
    if (shipped_by_.emplace(std::pair(log, epoch), primary_.life()).first->second != primary_.life())
      common_.trace.fail("{} is shipped in {}, in which another life of the primary shipped", (*it)->member.name,
                         to_string(epoch));
  } else if (const auto* told = std::get_if<protocol::PolicyUpdate>(&frame.body)) {
    policy_told_ = *told, told_in_life_ = primary_.life();
  }
}

// One who counts has what the primary told, and not what another life of it told under the same version.
void Checkers::look_at_policies() {
  if (!policy_told_ || told_in_life_ != primary_.life()) return;
  const auto counts = [&](std::size_t i) { return primary_.node->snapshot(common_.now()).primary.replicas[i].counts; };
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    const node::PolicyRecord& record = shadows_[i].state->policy;
    const auto same_log = [](const node::MemberRecord& a, const protocol::PolicyMember& b) {
      return a.id == b.id && a.log_id == b.log_id;
    };
    const bool other =
        record.version == policy_told_->version &&
        (record.text != policy_told_->text || !std::ranges::equal(record.members, policy_told_->members, same_log));
    if (!check(Check::kUsedOnce, !other || !counts(i)))
      common_.trace.fail("{} counts by another content of policy version {:x}", replicas_[i]->member.name,
                         record.version);
  }
}

// ---- Reports (promise 2)

bool Checkers::held(ack::Level level, Lsn end) const {
  std::vector<ack::Member> members;
  std::vector<NodeId> lacking;
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    const Shadow& s = shadows_[i];
    members.push_back(replicas_[i]->member);
    const Lsn applied = std::min(s.survives, replicas_[i]->standby.applied_ever());
    const Lsn has = level == ack::Level::kReceived  ? std::max({s.received, s.survives, s.gone_received})
                    : level == ack::Level::kDurable ? std::max(s.survives, s.gone_durable)
                                                    : std::max(applied, s.gone_applied);
    if (has < postgres_.record_floor(end)) lacking.push_back(members.back().id);
  }
  const auto policy = ack::Policy::parse(primary_.policy, members);
  return policy && !policy->empty() && !ack::is_recovery_set(*policy, lacking);
}

void Checkers::on_report(const node::Report& report) {
  if (primary_.ship_written && !postgres_.hears_reports()) return;  // What it held may be lost, and nobody hears it.
  const auto look_at = [&](ack::Level level, Lsn end, Lsn before) {
    if (end <= before) return;
    if (!check(Check::kReportHeld, held(level, end)))
      common_.trace.fail("{} was reported at level {}, but the policy's replicas do not hold it", to_string(end),
                         ack::to_string(level));
    if (!check(Check::kReportValid, primary_.ship_written
                                        ? end <= postgres_.end() || !postgres_.hears_reports()
                                        : end <= postgres_.flushed_end() && end <= primary_.confirmed_end))
      common_.trace.fail("{} was reported, confirmed is {}", to_string(end), to_string(primary_.confirmed_end));
  };
  if (report.write < last_report_.write || report.flush < last_report_.flush || report.apply < last_report_.apply)
    last_report_ = {};  // A new connection.
  look_at(ack::Level::kReceived, report.write, last_report_.write);
  look_at(ack::Level::kDurable, report.flush, last_report_.flush);
  look_at(ack::Level::kApplied, report.apply, last_report_.apply);
  look_at_policies();
  last_report_ = report;
}

// ---- Claims (promise 9)

void Checkers::on_reported(const node::Report& report) {
  claimed_durable_ = std::max(claimed_durable_, postgres_.record_floor(std::max(report.flush, report.apply)));
  // A daemon that held it may have died while the report was on its way (R3).
  const Lsn received = postgres_.record_floor(std::min(report.write, least_held(true)));
  claimed_received_ = std::max(claimed_received_, received);
  changed_ = true;
}

void Checkers::on_commit(Lsn end, ack::Level level) {
  const bool covered = level == ack::Level::kReceived || end <= claimed_durable_;
  if (!check(Check::kCommitCovered, covered && end <= postgres_.flushed_end()))
    common_.trace.fail("the commit at {} was acknowledged, reported is {}", to_string(end),
                       to_string(claimed_durable_));
  changed_ = true;
}

// As plan_promotion() says without further questions (P1, Q4).
bool Checkers::is_promotable(std::uint32_t set) const {
  std::vector<node::Evidence> members(shadows_.size());
  std::vector<const node::Evidence*> in_set;
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    members[i].policy = shadows_[i].state->policy;
    members[i].held_epoch = shadows_[i].state->held_epoch;
    members[i].durable_end = shadows_[i].survives;
    if ((set >> i & 1) != 0) in_set.push_back(&members[i]);
  }
  return std::ranges::all_of(app::binding_policies(in_set),
                             [&](const node::PolicyRecord& record) { return recovers(record, set); });
}

bool Checkers::recovers(const node::PolicyRecord& record, std::uint32_t set) const {
  std::vector<ack::Member> members;
  std::vector<NodeId> present;
  for (const node::MemberRecord& member : record.members) {
    members.push_back({member.id, member.name});
    for (std::size_t i = 0; i < shadows_.size(); ++i)
      if ((set >> i & 1) != 0 && replicas_[i]->member.id == member.id && shadows_[i].log_id == member.log_id)
        present.push_back(member.id);
  }
  const auto policy = ack::Policy::parse(record.text, members);
  return policy && !policy->empty() && ack::is_recovery_set(*policy, present);
}

Lsn Checkers::least_held(bool received) const {
  Lsn least{UINT64_MAX};
  for (std::uint32_t set = 1; set < 1u << shadows_.size(); ++set) {
    if ((promotable_ >> set & 1) == 0) continue;
    Lsn most{};
    for (std::size_t i = 0; i < shadows_.size(); ++i)
      if ((set >> i & 1) != 0) most = std::max({most, shadows_[i].survives, received ? shadows_[i].received : Lsn{}});
    least = std::min(least, most);
  }
  return least;
}

void Checkers::look() {
  common_.counts.note(Check::kCommitsSurvive);
  if (!changed_) return;  // Nothing that it depends on.
  changed_ = false;
  if (policies_differ_) find_promotable();  // Then also by what each holds.
  if (least_held(false) < claimed_durable_)
    common_.trace.fail("commits to {} may be acknowledged; the primary lost now, a recovery set brings back only {}",
                       to_string(claimed_durable_), to_string(least_held(false)));
  if (least_held(true) < claimed_received_)
    common_.trace.fail("commits to {} may be acknowledged at remote_write; a recovery set brings back only {}",
                       to_string(claimed_received_), to_string(least_held(true)));
}

}  // namespace slipstream::sim
