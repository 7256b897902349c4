#include "protocol/sealed_frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"

namespace slipstream::protocol {
namespace {

template <std::unsigned_integral T>
void store(std::span<std::byte> out, std::size_t at, T value) {
  ByteWriter(out.subspan(at, sizeof value)).le(value);
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
  return Verdict::kAccepted;
}

void seal_frame(std::span<const std::byte> head, std::span<const std::byte> payload, seal::Sealing& sealing,
                std::span<std::byte> out) {
  CHECK(head.size() >= kHeaderBytes && out.size() == head.size() + payload.size());
  const seal::Sealing::Stamp stamp = sealing.next();
  std::ranges::copy(head.first(kTagOffset), out.begin());
  store(out, kKeyOffset, stamp.key);
  store(out, kPacketNumberOffset, stamp.packet_number);
  const seal::Tag tag =
      sealing.seal(stamp, out.first(kTagOffset), head.subspan(kHeaderBytes), payload, out.subspan(kHeaderBytes));
  std::ranges::copy(tag, out.subspan(kTagOffset).begin());
}

Verdict open_frame(std::span<std::byte> frame, seal::Opening& opening) {
  if (frame.size() < kHeaderBytes) return Verdict::kTruncated;
  const auto header = std::span<const std::byte>(frame).first(kTagOffset);
  const auto key = ByteReader(header.subspan(kKeyOffset)).le<std::uint32_t>();
  const auto number = ByteReader(header.subspan(kPacketNumberOffset)).le<std::uint64_t>();
  seal::Tag tag;
  std::ranges::copy(frame.subspan(kTagOffset, tag.size()), tag.begin());
  switch (opening.open(key, number, header, frame.subspan(kHeaderBytes), tag)) {
    case seal::Opening::Outcome::kOpened:
      break;
    case seal::Opening::Outcome::kUnknownKey:
      return Verdict::kUnknownKey;
    case seal::Opening::Outcome::kReplayed:
      return Verdict::kReplayed;
    case seal::Opening::Outcome::kForged:
      return Verdict::kForged;
  }
  store(frame, kKeyOffset, std::uint32_t{0});
  renew_tag(frame);
  return Verdict::kAccepted;
}

}  // namespace slipstream::protocol
