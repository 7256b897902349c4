#include "protocol/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"
#include "protocol/body_codec.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kPayloadBytesOffset = 60;

// Data and path probes: as long as the path allows, and their tag covers the header alone.
bool is_long(FrameKind kind) { return kind == FrameKind::kData || kind == FrameKind::kPathProbe; }

std::size_t header_bytes_least(FrameKind kind) {
  if (kind == FrameKind::kData) return kDataHeaderBytes;
  return kind == FrameKind::kPathProbe ? kPathProbeHeaderBytes : kHeaderBytes;
}

// XXH3-128 of the bytes with the tag's place left out.
Digest128 tag_of(std::span<const std::byte> bytes) {
  std::array<std::byte, kControlBytesMax> hashed;
  CHECK(bytes.size() <= hashed.size());
  const auto behind = bytes.subspan(kTagOffset + kTagBytes);
  copy_bytes(bytes.first(kTagOffset), hashed);
  copy_bytes(behind, std::span(hashed).subspan(kTagOffset));
  return xxh3_128(std::span(hashed).first(kTagOffset + behind.size()));
}

// A header is written for every frame: its fields are stored whole, not byte by byte.
template <std::unsigned_integral T>
void store(std::span<std::byte> out, std::size_t at, T value) {
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(out.subspan(at, sizeof value).data(), &value, sizeof value);
}

void write_header(std::span<std::byte> out, const FrameHeader& h, std::size_t header_bytes, std::size_t payload_bytes) {
  CHECK((h.flags & ~kMustUnderstand) == 0 && h.key == 0 && out.size() >= header_bytes);
  store(out, 0, kMagic);
  store(out, 2, kFormatVersion);
  store(out, 3, static_cast<std::uint8_t>(h.kind));
  store(out, 4, h.flags);
  store(out, 6, static_cast<std::uint16_t>(header_bytes));
  store(out, 8, h.cluster.value);
  store(out, 16, h.stream);
  store(out, 20, h.source.value);
  store(out, 22, h.destination.value);
  store(out, 24, h.session.value);
  store(out, kKeyOffset, h.key);
  store(out, 36, std::uint32_t{0});
  store(out, kPacketNumberOffset, h.packet_number);
  store(out, 48, h.epoch.term);
  store(out, 52, h.epoch.incarnation);
  store(out, 56, h.timeline.value);
  store(out, kPayloadBytesOffset, static_cast<std::uint32_t>(payload_bytes));
  store(out, 64, h.position.value);
  store(out, 72, h.flushed_end.value);
  store(out, 80, h.confirmed_end.value);
  store(out, 88, h.sent_at);
}

void write_tag(std::span<std::byte> frame) {
  const Digest128 tag = tag_of(frame);
  store(frame, kTagOffset, tag.high);
  store(frame, kTagOffset + 8, tag.low);
}

// What the header says of the frame besides FrameHeader.
struct Envelope {
  std::size_t header_bytes = 0;
  std::size_t payload_bytes = 0;
  std::uint32_t reserved = 0;
  Digest128 tag;
};

// Whether the plaintext tag is what tells of damage, or a key has proven the frame.
enum class Trust : std::uint8_t { kTagged, kProven };

// From behind the version on.
Envelope read_header(ByteReader& in, FrameHeader& h) {
  Envelope envelope;
  h.kind = static_cast<FrameKind>(in.le<std::uint8_t>());
  h.flags = in.le<std::uint16_t>();
  envelope.header_bytes = in.le<std::uint16_t>();
  h.cluster.value = in.le<std::uint64_t>();
  h.stream = in.le<std::uint32_t>();
  h.source.value = in.le<std::uint16_t>();
  h.destination.value = in.le<std::uint16_t>();
  h.session.value = in.le<std::uint64_t>();
  h.key = in.le<std::uint32_t>();
  envelope.reserved = in.le<std::uint32_t>();
  h.packet_number = in.le<std::uint64_t>();
  h.epoch.term = in.le<std::uint32_t>();
  h.epoch.incarnation = in.le<std::uint32_t>();
  h.timeline.value = in.le<std::uint32_t>();
  envelope.payload_bytes = in.le<std::uint32_t>();
  h.position.value = in.le<std::uint64_t>();
  h.flushed_end.value = in.le<std::uint64_t>();
  h.confirmed_end.value = in.le<std::uint64_t>();
  h.sent_at = in.le<std::uint64_t>();
  envelope.tag.high = in.le<std::uint64_t>();
  envelope.tag.low = in.le<std::uint64_t>();
  return envelope;
}

Verdict check_envelope(std::span<const std::byte> bytes, const FrameHeader& h, const Envelope& envelope, Trust trust) {
  const std::size_t header_bytes = envelope.header_bytes;
  if (header_bytes < header_bytes_least(h.kind) || header_bytes > kHeaderBytesMax) return Verdict::kBadField;
  if (bytes.size() < header_bytes || bytes.size() - header_bytes < envelope.payload_bytes) return Verdict::kTruncated;
  if (bytes.size() - header_bytes > envelope.payload_bytes) return Verdict::kOversized;
  if (!is_long(h.kind) && bytes.size() > kControlBytesMax) return Verdict::kOversized;
  if (h.key != 0 && trust == Trust::kTagged) return Verdict::kSealed;
  if ((h.flags & ~kMustUnderstand) != 0 || envelope.reserved != 0) return Verdict::kReservedBits;
  if (trust == Trust::kProven) return Verdict::kAccepted;
  return tag_of(is_long(h.kind) ? bytes.first(header_bytes) : bytes) == envelope.tag ? Verdict::kAccepted
                                                                                     : Verdict::kChecksum;
}

bool batch_fits(const LsnRange& batch) {
  return batch.begin < batch.end && batch.size().value <= kBatchBytesMax &&
         batch.begin.value / kBatchBoundary == (batch.end.value - 1) / kBatchBoundary;
}

bool payload_fits(Lsn position, std::size_t payload_bytes, const LsnRange& batch) {
  return payload_bytes > 0 && batch.contains(position) && payload_bytes <= (batch.end - position).value;
}

Verdict read_data(ByteReader& in, Lsn position, std::span<const std::byte> payload, Data& out) {
  const Lsn begin{in.le<std::uint64_t>()};
  const ByteCount size{in.le<std::uint32_t>()};
  const auto reserved = in.le<std::uint32_t>();
  out.batch = {{begin, begin + size}, in.le<std::uint64_t>()};
  out.payload = payload;
  if (reserved != 0) return Verdict::kReservedBits;
  if (!batch_fits(out.batch.range)) return Verdict::kBadRange;
  return payload_fits(position, payload.size(), out.batch.range) ? Verdict::kAccepted : Verdict::kBadRange;
}

Verdict read_path_probe(ByteReader& in, std::size_t frame_bytes, PathProbe& out) {
  out.number = in.le<std::uint32_t>();
  out.frame_bytes = in.le<std::uint32_t>();
  return out.frame_bytes > kPathProbeHeaderBytes && out.frame_bytes <= frame_bytes ? Verdict::kAccepted
                                                                                   : Verdict::kBadField;
}

Verdict decode(std::span<const std::byte> bytes, Frame& out, Trust trust) {
  if (bytes.size() < kHeaderBytes) return Verdict::kTruncated;
  if (bytes.size() > kFrameBytesMax) return Verdict::kOversized;
  ByteReader in(bytes);
  if (in.le<std::uint16_t>() != kMagic) return Verdict::kMagic;
  if (in.le<std::uint8_t>() != kFormatVersion) return Verdict::kVersion;
  FrameHeader& h = out.header;
  const Envelope envelope = read_header(in, h);
  if (const Verdict verdict = check_envelope(bytes, h, envelope, trust); verdict != Verdict::kAccepted) return verdict;
  const auto payload = bytes.subspan(envelope.header_bytes);
  if (h.kind == FrameKind::kData) return read_data(in, h.position, payload, out.body.emplace<Data>());
  if (h.kind == FrameKind::kPathProbe)
    return h.position.value == 0 ? read_path_probe(in, bytes.size(), out.body.emplace<PathProbe>())
                                 : Verdict::kReservedBits;
  if (known_control(h.kind))
    return h.position.value == 0 ? read_body(payload, h.kind, out.body) : Verdict::kReservedBits;
  out.body = Unknown{};
  return (h.flags & kMustUnderstand) != 0 ? Verdict::kUnknownKind : Verdict::kSkipped;
}

}  // namespace

std::string_view to_string(RefuseReason reason) {
  switch (reason) {
    case RefuseReason::kNoSession:
      return "no session";
    case RefuseReason::kVersion:
      return "version";
    case RefuseReason::kCluster:
      return "another cluster";
    case RefuseReason::kSegmentSize:
      return "segment size";
    case RefuseReason::kTimeline:
      return "older timeline";
    case RefuseReason::kStaleEpoch:
      return "superseded epoch";
    case RefuseReason::kOtherIdentity:
      return "the term has another owner";
    case RefuseReason::kFenced:
      return "fenced";
    case RefuseReason::kDivergent:
      return "divergent";
    case RefuseReason::kPrimaryBehind:
      return "the primary is behind";
    case RefuseReason::kWalGone:
      return "the WAL you need is gone";
    case RefuseReason::kUnknownNode:
      return "unknown node";
    case RefuseReason::kDirectory:
      return "directory";
  }
  return "unknown";
}

Verdict decode(std::span<const std::byte> bytes, Frame& out) { return decode(bytes, out, Trust::kTagged); }

Verdict decode(const Arrival& frame, Frame& out) {
  return decode(frame.bytes(), out, frame.is_proven() ? Trust::kProven : Trust::kTagged);
}

std::size_t encode(FrameHeader header, const Body& body, std::span<std::byte> out) {
  CHECK(out.size() >= kControlBytesMax && header.position.value == 0);
  header.kind = kind_of(body);
  if (header.kind == FrameKind::kCut) header.flags |= kMustUnderstand;
  BodyWriter writer(out.first(kControlBytesMax).subspan(kHeaderBytes));
  write_body(writer, body);
  const std::size_t frame_bytes = kHeaderBytes + writer.position();
  write_header(out, header, kHeaderBytes, writer.position());
  write_tag(out.first(frame_bytes));
  return frame_bytes;
}

bool GroupKey::operator==(const GroupKey& other) const {
  return key.id == other.key.id && seal::equal(key.root.bytes(), other.key.root.bytes());
}

bool fits(const PolicyUpdate& update) {
  std::size_t bytes = kHeaderBytes + 8 + 2 + update.text.size() + 2;
  bytes += 4 + 16 * std::max<std::size_t>(1, update.not_held.size());
  for (const PolicyMember& member : update.members) {
    if (member.name.empty() || member.name.size() > kNameBytesMax) return false;
    bytes += 2 + member.name.size() + 2 + 16;
  }
  return update.text.size() <= kPolicyTextBytesMax && update.members.size() <= kMembersMax &&
         update.not_held.size() <= kNotHeldMax && bytes <= kControlBytesMax;
}

std::size_t encode_data_head(FrameHeader header, const Batch& batch, std::size_t payload_bytes,
                             std::span<std::byte> out) {
  CHECK(batch_fits(batch.range) && payload_fits(header.position, payload_bytes, batch.range));
  header.kind = FrameKind::kData;
  write_header(out, header, kDataHeaderBytes, payload_bytes);
  store(out, 112, batch.range.begin.value);
  store(out, 120, static_cast<std::uint32_t>(batch.range.size().value));
  store(out, 124, std::uint32_t{0});
  store(out, 128, batch.digest);
  write_tag(out.first(kDataHeaderBytes));
  return kDataHeaderBytes;
}

std::size_t encode_path_probe_head(FrameHeader header, const PathProbe& probe, std::span<std::byte> out) {
  CHECK(header.position.value == 0 && probe.frame_bytes > kPathProbeHeaderBytes && probe.frame_bytes <= kFrameBytesMax);
  header.kind = FrameKind::kPathProbe;
  write_header(out, header, kPathProbeHeaderBytes, probe.frame_bytes - kPathProbeHeaderBytes);
  store(out, 112, probe.number);
  store(out, 116, probe.frame_bytes);
  write_tag(out.first(kPathProbeHeaderBytes));
  return kPathProbeHeaderBytes;
}

void lengthen_path_probe(std::span<std::byte> head, std::size_t more_bytes) {
  CHECK(head.size() == kPathProbeHeaderBytes);
  const auto payload_bytes = ByteReader(head.subspan(kPayloadBytesOffset)).le<std::uint32_t>();
  store(head, kPayloadBytesOffset, static_cast<std::uint32_t>(payload_bytes + more_bytes));
  write_tag(head);
}

}  // namespace slipstream::protocol
