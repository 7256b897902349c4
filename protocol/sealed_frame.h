#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "protocol/frame.h"
#include "seal/group.h"
#include "seal/session.h"

// Sealed frames: the header stays readable, and is authenticated; all behind it is enciphered. Its key and packet
// number are those of the session (seal/session.h), its tag is AES-GCM's.
namespace slipstream::protocol {

// The parts of a header that are looked at before the frame is opened; nothing of it is proven.
struct Outside {
  FrameKind kind = FrameKind::kProbe;
  NodeId source, destination;
  std::uint32_t key = 0;  // 0: plaintext.
  Lsn position;
};
// kAccepted, kTruncated, kMagic or kVersion.
[[nodiscard]] Verdict peek(std::span<const std::byte> frame, Outside& out);

// Seals the plaintext frame that consists of `head` (at least a header) and `payload` into `out`, of as many bytes.
void seal_frame(std::span<const std::byte> head, std::span<const std::byte> payload, seal::Sealing& sealing,
                std::span<std::byte> out);

// Behind a data frame's description of its batch: how its payload was sealed for a group.
constexpr std::size_t kGroupSealBytes = 32;
constexpr std::size_t kGroupedHeadBytes = kDataHeaderBytes + kGroupSealBytes;
// Seals a data frame's `head` (kDataHeaderBytes of plaintext), with how its payload was sealed, into `out`, of at least
// kGroupedHeadBytes. What the payload became then follows on the wire.
void seal_grouped_head(std::span<const std::byte> head, const seal::GroupSeal& payload, seal::Sealing& sealing,
                       std::span<std::byte> out);

// Opens a frame in its place: it is proven then, to be decoded, or garbage. But for the key, which it still says, and
// the tag it is the plaintext frame. The payload of one that was sealed for a group opens by `group`. Whatever is not
// accepted does not count as seen.
[[nodiscard]] Verdict open_frame(Arrival& frame, seal::Opening& opening, seal::GroupOpening& group);

}  // namespace slipstream::protocol
