#include "protocol/sealed_frame.h"

#include <concepts>

#include "base/bytes.h"

namespace slipstream::protocol {
namespace {

constexpr std::size_t kFlagsOffset = 4, kHeaderBytesOffset = 6, kPositionOffset = 64;

template <std::unsigned_integral T>
void store(std::span<std::byte> out, std::size_t at, T value) {
  ByteWriter(out.subspan(at, sizeof value)).le(value);
}
template <std::unsigned_integral T>
T load(std::span<const std::byte> in, std::size_t at) {
  return ByteReader(in.subspan(at, sizeof(T))).le<T>();
}

}  // namespace

Verdict peek(std::span<const std::byte> frame, Outside& out) {
  if (frame.size() < kHeaderBytes) return Verdict::kTruncated;
  ByteReader in(frame);
  if (in.le<std::uint16_t>() != kMagic) return Verdict::kMagic;
  if (in.le<std::uint8_t>() != kFormatVersion) return Verdict::kVersion;
  out.kind = static_cast<FrameKind>(in.le<std::uint8_t>());
  in.bytes(16);  // Flags, lengths, cluster, stream: authenticated, and decoded later.
  out.source.value = in.le<std::uint16_t>();
  out.destination.value = in.le<std::uint16_t>();
  in.bytes(8);
  out.key = in.le<std::uint32_t>();
  in.bytes(kPositionOffset - kKeyOffset - 4);
  out.position.value = in.le<std::uint64_t>();
  return Verdict::kAccepted;
}

void seal_frame(std::span<const std::byte> head, std::span<const std::byte> payload, seal::Sealing& sealing,
                std::span<std::byte> out) {
  CHECK(head.size() >= kHeaderBytes && out.size() == head.size() + payload.size());
  const seal::Sealing::Stamp stamp = sealing.next();
  copy_bytes(head.first(kTagOffset), out);
  store(out, kKeyOffset, stamp.key);
  store(out, kPacketNumberOffset, stamp.packet_number);
  const seal::Tag tag =
      sealing.seal(stamp, out.first(kTagOffset), head.subspan(kHeaderBytes), payload, out.subspan(kHeaderBytes));
  copy_bytes(tag, out.subspan(kTagOffset));
}

void seal_grouped_head(std::span<const std::byte> head, const seal::GroupSeal& payload, seal::Sealing& sealing,
                       std::span<std::byte> out) {
  CHECK(head.size() == kDataHeaderBytes && out.size() >= kGroupedHeadBytes);
  const seal::Sealing::Stamp stamp = sealing.next();
  out = out.first(kGroupedHeadBytes);
  copy_bytes(head, out);
  store(out, kFlagsOffset, static_cast<std::uint16_t>(load<std::uint16_t>(head, kFlagsOffset) | kGroupSealed));
  store(out, kHeaderBytesOffset, static_cast<std::uint16_t>(kGroupedHeadBytes));
  store(out, kKeyOffset, stamp.key);
  store(out, kPacketNumberOffset, stamp.packet_number);
  ByteWriter group(out.subspan(kDataHeaderBytes));
  group.le(payload.key);
  group.le(std::uint32_t{0});
  group.le(payload.number);
  group.bytes(payload.tag);
  const auto text = out.subspan(kHeaderBytes);
  const seal::Tag tag = sealing.seal(stamp, out.first(kTagOffset), text, {}, text);
  copy_bytes(tag, out.subspan(kTagOffset));
}

namespace {

bool is_grouped(std::span<const std::byte> frame) {
  return (load<std::uint16_t>(frame, kFlagsOffset) & kGroupSealed) != 0;
}

// Of a frame whose head is open. Then it is as if sealed in one piece: the longer header is one that decode() takes.
Verdict open_payload(std::span<std::byte> frame, seal::GroupOpening& group) {
  ByteReader in(frame.subspan(kDataHeaderBytes));
  seal::GroupSeal sealed;
  sealed.key = in.le<std::uint32_t>();
  if (in.le<std::uint32_t>() != 0) return Verdict::kReservedBits;
  sealed.number = in.le<std::uint64_t>();
  copy_bytes(in.bytes(seal::kTagBytes), sealed.tag);
  switch (group.open(sealed, frame.subspan(kGroupedHeadBytes))) {
    case seal::GroupOpening::Outcome::kOpened:
      break;
    case seal::GroupOpening::Outcome::kUnknownKey:
      return Verdict::kUnknownKey;
    case seal::GroupOpening::Outcome::kForged:
      return Verdict::kForged;
  }
  store(frame, kFlagsOffset, static_cast<std::uint16_t>(load<std::uint16_t>(frame, kFlagsOffset) & ~kGroupSealed));
  return Verdict::kAccepted;
}

Verdict verdict_of(seal::Opening::Outcome outcome) {
  switch (outcome) {
    case seal::Opening::Outcome::kOpened:
      return Verdict::kAccepted;
    case seal::Opening::Outcome::kUnknownKey:
      return Verdict::kUnknownKey;
    case seal::Opening::Outcome::kReplayed:
      return Verdict::kReplayed;
    case seal::Opening::Outcome::kForged:
      break;
  }
  return Verdict::kForged;
}

}  // namespace

Verdict open_frame(Arrival& arrival, seal::Opening& opening, seal::GroupOpening& group) {
  const std::span<std::byte> frame = arrival.bytes();
  arrival.proven_ = false;
  if (frame.size() < kHeaderBytes) return Verdict::kTruncated;
  const bool grouped = is_grouped(frame);
  if (grouped && frame.size() <= kGroupedHeadBytes) return Verdict::kTruncated;
  const auto header = std::span<const std::byte>(frame).first(kTagOffset);
  const auto text = (grouped ? frame.first(kGroupedHeadBytes) : frame).subspan(kHeaderBytes);
  const auto number = load<std::uint64_t>(header, kPacketNumberOffset);
  seal::Tag tag;
  copy_bytes(frame.subspan(kTagOffset, tag.size()), tag);
  Verdict verdict = verdict_of(opening.verify(load<std::uint32_t>(header, kKeyOffset), number, header, text, tag));
  if (verdict == Verdict::kAccepted && grouped) verdict = open_payload(frame, group);
  if (verdict != Verdict::kAccepted) return verdict;
  opening.note(number);
  arrival.proven_ = true;
  return Verdict::kAccepted;
}

}  // namespace slipstream::protocol
