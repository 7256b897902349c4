#include "protocol/body_codec.h"

#include <bit>

namespace slipstream::protocol {
namespace {

template <class T, class B>
concept Is = std::same_as<std::remove_const_t<T>, B>;

// ---- Fields: one list for both ways; `c` is a BodyWriter or a BodyReader.

void fields(auto& c, Is<Ack> auto& v) {
  c.values(v.received_end, v.durable_end, v.applied_end, v.final_end, v.window_end, v.echo_sent_at, v.echo_delay,
           v.echo_flushed_end, v.echo_confirmed_end, v.policy_version);
  c.count(v.missing_count, kMissingMax);
  for (std::size_t i = 0; i < v.missing_count; ++i) c.value(v.missing[i]);
}
void fields(auto& c, Is<Probe> auto& v) { c.values(v.sent_end, v.wants_ack); }
void fields(auto& c, Is<Hello> auto& v) {
  c.value(v.identity.value);
  c.name(v.primary_name);
  c.values(v.version_min, v.version_max, v.server_version_num, v.segment_size, v.flushed_end, v.policy_version);
}
void fields(auto& c, Is<Welcome> auto& v) {
  c.value(v.log_id.value);
  c.name(v.name);
  c.values(v.held_epoch, v.counted_end, v.log_begin, v.durable_end, v.final_end, v.applied_end, v.window_end,
           v.policy_version, v.standby_ready, v.log_only);
}
void fields(auto& c, Is<Refuse> auto& v) {
  c.values(v.reason, v.promised, v.promised_identity.value);
  c.prose(v.text);
}
void fields(auto& c, Is<DigestRequest> auto& v) { c.value(v.range); }
void fields(auto& c, Is<DigestReply> auto& v) {
  c.items(v.digests, kDigestsMax);
  for (auto& each : v.digests) c.values(each.range, each.digest);
}
void fields(auto& c, Is<Adopt> auto& v) { c.value(v.adopted_end); }
void fields(auto& c, Is<Cut> auto& v) { c.values(v.from, v.old_end); }
void fields(auto& c, Is<History> auto& v) {
  c.values(v.timeline, v.total_bytes, v.offset);
  c.text(v.piece, kHistoryPieceBytesMax);
}
void fields(auto& c, Is<PolicyUpdate> auto& v) {
  c.value(v.version);
  c.text(v.text, kPolicyTextBytesMax);
  c.items(v.members, kMembersMax);
  for (auto& member : v.members) {
    c.name(member.name);
    c.values(member.id, member.log_id.value);
  }
}
void fields(auto& c, Is<Bye> auto& v) { c.prose(v.text); }
void fields(auto& c, Is<seal::KeyRequest> auto& v) { c.values(v.ephemeral, v.mac); }
void fields(auto& c, Is<seal::KeyCookie> auto& v) { c.values(v.ephemeral, v.cookie, v.mac); }
void fields(auto& c, Is<seal::KeyOpen> auto& v) { c.values(v.cookie, v.message); }
void fields(auto& c, Is<seal::KeyReply> auto& v) { c.value(v.message); }
void fields(auto& c, Is<GroupKey> auto& v) { c.values(v.key.id, v.key.root); }
void fields(auto& c, Is<GroupKeyHeld> auto& v) { c.value(v.id); }
void fields(auto& c, Is<PathReply> auto& v) { c.values(v.number, v.frame_bytes); }

// ---- Relations between fields that were each within bounds.

void check(BodyReader& in, const Ack& v) {
  in.require(v.durable_end <= v.received_end && v.final_end <= v.durable_end && v.applied_end <= v.durable_end,
             Verdict::kBadAck);
  in.require(v.received_end <= v.window_end, Verdict::kBadRange);
  Lsn end = v.received_end;
  for (std::size_t i = 0; i < v.missing_count; ++i) {
    in.require(end <= v.missing[i].begin, Verdict::kBadRange);
    end = v.missing[i].end;
  }
}
void check(BodyReader& in, const Hello& v) {
  in.require(v.version_min >= 1 && v.version_min <= v.version_max, Verdict::kBadField);
  const std::uint64_t segment = v.segment_size.value;
  in.require(std::has_single_bit(segment) && segment >= (1u << 20) && segment <= (1u << 30), Verdict::kBadField);
  in.require(!v.identity.value.none(), Verdict::kBadField);
}
void check(BodyReader& in, const Welcome& v) {
  in.require(!v.log_id.value.none(), Verdict::kBadField);
  in.require(v.log_begin <= v.durable_end && v.final_end <= v.durable_end && v.applied_end <= v.durable_end &&
                 v.durable_end <= v.window_end,
             Verdict::kBadRange);
}
void check(BodyReader& in, const DigestReply& v) {
  in.require(!v.digests.empty(), Verdict::kBadField);
  Lsn end{};
  for (const RangeDigest& each : v.digests) {
    const bool one_block = each.range.begin.value / kDigestBlock == (each.range.end.value - 1) / kDigestBlock;
    in.require(end <= each.range.begin && one_block, Verdict::kBadRange);
    end = each.range.end;
  }
}
void check(BodyReader& in, const Cut& v) { in.require(v.from < v.old_end, Verdict::kBadRange); }
void check(BodyReader& in, const History& v) {
  in.require(v.timeline.value > 1 && v.total_bytes <= kHistoryBytesMax, Verdict::kBadField);
  in.require(v.offset <= v.total_bytes && v.piece.size() <= v.total_bytes - v.offset, Verdict::kBadRange);
}
void check(BodyReader& in, const GroupKey& v) { in.require(v.key.id != 0, Verdict::kBadField); }
void check(BodyReader& in, const GroupKeyHeld& v) { in.require(v.id != 0, Verdict::kBadField); }
void check(BodyReader& in, const PolicyUpdate& v) {
  for (const PolicyMember& member : v.members) in.require(member.id.value != 0, Verdict::kBadField);
}
template <class T>
void check(BodyReader&, const T&) {}

// ---- Extras: {tag u16, length u16, bytes}, tags rising. Bit 15 of a tag: must be understood.

enum AckExtra : std::uint16_t { kStandbyReady = 1, kLogOnly = 2, kRestartPoint = 3, kXmin = 4, kCatalogXmin = 5 };
enum PolicyExtra : std::uint16_t { kNotHeld = 1 };

template <class T>
void write_extras(BodyWriter&, const T&) {}
void write_extras(BodyWriter& out, const Ack& v) {
  if (v.standby_ready) out.extra(kStandbyReady, 1);
  if (v.log_only) out.extra(kLogOnly, 1);
  if (v.restart_point.value != 0) out.extra(kRestartPoint, v.restart_point.value);
  if (v.standby_xmin != 0) out.extra(kXmin, v.standby_xmin);
  if (v.standby_catalog_xmin != 0) out.extra(kCatalogXmin, v.standby_catalog_xmin);
}

// A reader that dropped it would hide that commits may be missing.
void write_extras(BodyWriter& out, const PolicyUpdate& v) {
  CHECK(v.not_held.size() <= kNotHeldMax);
  if (!v.not_held.empty()) out.extra(kNotHeld | kMustUnderstand, v.not_held);
}

// kSkipped: not a tag of this body.
template <class T>
Verdict read_extra(std::uint16_t, BodyReader&, T&) {
  return Verdict::kSkipped;
}
Verdict read_extra(std::uint16_t tag, BodyReader& in, Ack& v) {
  if (tag < kStandbyReady || tag > kCatalogXmin) return Verdict::kSkipped;
  std::uint64_t value = 0;
  in.value(value);
  in.require(value != 0 && in.remaining() == 0, Verdict::kBadField);
  switch (tag) {
    case kStandbyReady:
      v.standby_ready = true;
      in.require(value == 1, Verdict::kBadField);
      break;
    case kLogOnly:
      v.log_only = true;
      in.require(value == 1, Verdict::kBadField);
      break;
    case kRestartPoint:
      v.restart_point = Lsn{value};
      break;
    case kXmin:
      v.standby_xmin = value;
      break;
    default:
      v.standby_catalog_xmin = value;
      break;
  }
  return in.verdict() == Verdict::kAccepted ? Verdict::kAccepted : Verdict::kBadField;
}

Verdict read_extra(std::uint16_t tag, BodyReader& in, PolicyUpdate& v) {
  if (tag != kNotHeld) return Verdict::kSkipped;
  in.require(in.remaining() > 0 && in.remaining() % 16 == 0 && in.remaining() <= 16 * kNotHeldMax, Verdict::kBadField);
  for (Lsn end{}; in.verdict() == Verdict::kAccepted && in.remaining() > 0; end = v.not_held.back().end) {
    in.value(v.not_held.emplace_back());
    in.require(end <= v.not_held.back().begin, Verdict::kBadRange);
  }
  return in.verdict();
}

template <class T>
void read_extras(BodyReader& in, T& v) {
  std::uint16_t tag_before = 0;
  while (in.verdict() == Verdict::kAccepted && in.remaining() > 0) {
    std::uint16_t marked = 0, length = 0;
    in.values(marked, length);
    BodyReader extra(in.bytes(length));
    if (in.verdict() != Verdict::kAccepted) return;
    const std::uint16_t tag = marked & static_cast<std::uint16_t>(~kMustUnderstand);
    in.require(tag > tag_before, Verdict::kBadField);
    tag_before = tag;
    const Verdict verdict = read_extra(tag, extra, v);
    if (verdict == Verdict::kSkipped) in.require((marked & kMustUnderstand) == 0, Verdict::kUnknownKind);
    if (verdict != Verdict::kSkipped) in.require(verdict == Verdict::kAccepted, verdict);
  }
}

template <class T>
Verdict read_as(std::span<const std::byte> bytes, Body& out) {
  BodyReader in(bytes);
  T& value = out.emplace<T>();
  fields(in, value);
  if (in.verdict() == Verdict::kAccepted) check(in, value);
  read_extras(in, value);
  return in.verdict();
}

template <class T>
constexpr FrameKind kKindOf = FrameKind{0};
template <>
constexpr FrameKind kKindOf<Data> = FrameKind::kData;
template <>
constexpr FrameKind kKindOf<Ack> = FrameKind::kAck;
template <>
constexpr FrameKind kKindOf<Probe> = FrameKind::kProbe;
template <>
constexpr FrameKind kKindOf<Hello> = FrameKind::kHello;
template <>
constexpr FrameKind kKindOf<Welcome> = FrameKind::kWelcome;
template <>
constexpr FrameKind kKindOf<Refuse> = FrameKind::kRefuse;
template <>
constexpr FrameKind kKindOf<DigestRequest> = FrameKind::kDigestRequest;
template <>
constexpr FrameKind kKindOf<DigestReply> = FrameKind::kDigestReply;
template <>
constexpr FrameKind kKindOf<Adopt> = FrameKind::kAdopt;
template <>
constexpr FrameKind kKindOf<History> = FrameKind::kHistory;
template <>
constexpr FrameKind kKindOf<PolicyUpdate> = FrameKind::kPolicy;
template <>
constexpr FrameKind kKindOf<Bye> = FrameKind::kBye;
template <>
constexpr FrameKind kKindOf<seal::KeyRequest> = FrameKind::kKeyRequest;
template <>
constexpr FrameKind kKindOf<seal::KeyCookie> = FrameKind::kKeyCookie;
template <>
constexpr FrameKind kKindOf<seal::KeyOpen> = FrameKind::kKeyOpen;
template <>
constexpr FrameKind kKindOf<seal::KeyReply> = FrameKind::kKeyReply;
template <>
constexpr FrameKind kKindOf<GroupKey> = FrameKind::kGroupKey;
template <>
constexpr FrameKind kKindOf<GroupKeyHeld> = FrameKind::kGroupKeyHeld;
template <>
constexpr FrameKind kKindOf<PathProbe> = FrameKind::kPathProbe;
template <>
constexpr FrameKind kKindOf<PathReply> = FrameKind::kPathReply;
template <>
constexpr FrameKind kKindOf<Cut> = FrameKind::kCut;

}  // namespace

FrameKind kind_of(const Body& body) {
  return std::visit([]<class T>(const T&) { return kKindOf<T>; }, body);
}

void write_body(BodyWriter& out, const Body& body) {
  std::visit(
      [&]<class T>(const T& each) {
        if constexpr (std::same_as<T, Data> || std::same_as<T, PathProbe> || std::same_as<T, Unknown>) {
          CHECK(false);
        } else {
          fields(out, each);
          write_extras(out, each);
        }
      },
      body);
}

bool known_control(FrameKind kind) {
  return (kind >= FrameKind::kAck && kind <= FrameKind::kPolicy) ||
         (kind >= FrameKind::kBye && kind <= FrameKind::kGroupKeyHeld) || kind == FrameKind::kPathReply ||
         kind == FrameKind::kCut;
}

Verdict read_body(std::span<const std::byte> bytes, FrameKind kind, Body& out) {
  switch (kind) {
    case FrameKind::kAck:
      return read_as<Ack>(bytes, out);
    case FrameKind::kProbe:
      return read_as<Probe>(bytes, out);
    case FrameKind::kHello:
      return read_as<Hello>(bytes, out);
    case FrameKind::kWelcome:
      return read_as<Welcome>(bytes, out);
    case FrameKind::kRefuse:
      return read_as<Refuse>(bytes, out);
    case FrameKind::kDigestRequest:
      return read_as<DigestRequest>(bytes, out);
    case FrameKind::kDigestReply:
      return read_as<DigestReply>(bytes, out);
    case FrameKind::kAdopt:
      return read_as<Adopt>(bytes, out);
    case FrameKind::kHistory:
      return read_as<History>(bytes, out);
    case FrameKind::kPolicy:
      return read_as<PolicyUpdate>(bytes, out);
    case FrameKind::kBye:
      return read_as<Bye>(bytes, out);
    case FrameKind::kKeyRequest:
      return read_as<seal::KeyRequest>(bytes, out);
    case FrameKind::kKeyCookie:
      return read_as<seal::KeyCookie>(bytes, out);
    case FrameKind::kKeyOpen:
      return read_as<seal::KeyOpen>(bytes, out);
    case FrameKind::kKeyReply:
      return read_as<seal::KeyReply>(bytes, out);
    case FrameKind::kGroupKey:
      return read_as<GroupKey>(bytes, out);
    case FrameKind::kGroupKeyHeld:
      return read_as<GroupKeyHeld>(bytes, out);
    case FrameKind::kPathReply:
      return read_as<PathReply>(bytes, out);
    case FrameKind::kCut:
      return read_as<Cut>(bytes, out);
    default:
      return Verdict::kUnknownKind;
  }
}

}  // namespace slipstream::protocol
