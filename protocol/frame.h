#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "protocol/verdict.h"

// The wire format: one frame per datagram. docs/wire_format.md is the specification, tests/golden/ holds a vector of each kind.
namespace slipstream::protocol {

constexpr std::uint16_t kMagic = 0x4c53;  // "SL", little-endian.
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 112;
constexpr std::size_t kDataHeaderBytes = kHeaderBytes + 24;
constexpr std::size_t kTagOffset = 96;
constexpr std::size_t kTagBytes = 16;  // Plaintext: XXH3-128 of all but the tag and a data frame's payload. Sealed: the AEAD's tag.
constexpr std::uint16_t kMustUnderstand = 0x8000;

enum class FrameKind : std::uint8_t {
  kData = 1,
  kAck = 2,            // Positions, window, and requests for missing ranges.
  kProbe = 3,          // Heartbeat and tail probe: how far was sent; wants an ack.
  kHello = 4,          // Primary opens a session in an epoch.
  kWelcome = 5,        // Replica: what it holds.
  kRefuse = 6,         // Either side: no, and why.
  kDigestRequest = 7,
  kDigestReply = 8,
  kAdopt = 9,          // Primary: compared equal up to here; hold it in this epoch.
  kHistory = 10,       // A piece of a timeline history file.
  kPolicy = 11,        // Policy and members, to be made durable.
  kFence = 12,         // Reserved: promotion over the wire (later).
  kFenceReply = 13,    // Reserved.
  kZeros = 14,         // Reserved: zeros up to a position.
  kBye = 15,           // Orderly end of a session.
};

struct FrameHeader {
  FrameKind kind = FrameKind::kProbe;
  std::uint16_t flags = 0;
  SystemId cluster;
  std::uint32_t stream = 0;  // 0: physical WAL.
  NodeId source;
  NodeId destination;        // 0xffff: a group.
  SessionId session;
  std::uint32_t key = 0;     // Key id and phase; 0: plaintext.
  std::uint64_t packet_number = 0;
  Epoch epoch;
  TimelineId timeline;
  Lsn position;
  Lsn flushed_end;
  Lsn confirmed_end;
  std::uint64_t sent_at = 0;  // Sender's clock, ns; echoed by acks.
  bool operator==(const FrameHeader&) const = default;
};

// A contiguous stretch read at once; its digest is checked before its bytes count. At most 128 KiB, never across a multiple of 1 MiB.
struct Batch {
  LsnRange range;
  std::uint64_t digest = 0;  // xxh3_64
  bool operator==(const Batch&) const = default;
};
constexpr std::uint64_t kBatchBytesMax = 128 * 1024;
constexpr std::uint64_t kBatchBoundary = 1024 * 1024;

struct Data {  // header.position is the payload's.
  Batch batch;
  std::span<const std::byte> payload;
};

constexpr std::size_t kMissingMax = 48;

struct Ack {
  Lsn received_end;
  Lsn durable_end;
  Lsn applied_end;
  Lsn final_end;
  Lsn window_end;            // Bytes below are welcome.
  std::uint64_t echo_sent_at = 0;   // Of the newest frame received.
  std::uint64_t echo_delay = 0;     // ns between receiving that and sending this.
  Lsn echo_flushed_end;
  Lsn echo_confirmed_end;
  std::uint64_t policy_version = 0; // Durable here.
  std::array<LsnRange, kMissingMax> missing{};
  std::size_t missing_count = 0;
  // Tagged extras.
  bool standby_ready = false;
  bool log_only = false;
  Lsn restart_point;
  std::uint64_t standby_xmin = 0;          // epoch << 32 | xmin; 0: none.
  std::uint64_t standby_catalog_xmin = 0;
};

struct Probe {
  Lsn sent_end;         // First byte not sent yet in this session.
  bool wants_ack = true;
};

struct Hello {
  Identity identity;
  std::string primary_name;
  std::uint8_t version_min = kVersion;
  std::uint8_t version_max = kVersion;
  std::uint32_t server_version_num = 0;
  ByteCount segment_size;
  Lsn flushed_end;
  std::uint64_t policy_version = 0;
};

struct Welcome {
  LogId log_id;
  std::string name;
  Epoch held_epoch;
  Lsn counted_end;
  Lsn log_begin;
  Lsn durable_end;
  Lsn final_end;
  Lsn applied_end;
  Lsn window_end;
  std::uint64_t policy_version = 0;
  bool standby_ready = false;
  bool log_only = false;
};

enum class RefuseReason : std::uint8_t {
  kNoSession = 1,        // Never opened, or forgotten in a restart: say hello again.
  kVersion = 2,
  kCluster = 3,          // Another system identifier.
  kSegmentSize = 4,
  kTimeline = 5,         // An older timeline than the log's.
  kStaleEpoch = 6,       // The term or incarnation is below the held or promised one: a superseded primary.
  kOtherIdentity = 7,    // The term has another owner.
  kFenced = 8,           // Promised to a candidate.
  kDivergent = 9,        // Digests differ.
  kPrimaryBehind = 10,   // The primary's flushed position is below what the replica holds.
  kWalGone = 11,         // The primary no longer has the WAL the replica needs.
  kUnknownNode = 12,     // Not configured here, or another node claims the name.
  kDirectory = 13,       // The replica's directory cannot take part (promoted, out of space …).
};
std::string_view to_string(RefuseReason reason);

struct Refuse {
  RefuseReason reason = RefuseReason::kNoSession;
  Epoch promised;
  Identity promised_identity;
  std::string text;  // For people. At most 512 bytes.
};

struct DigestRequest { LsnRange range; };  // Answered in one or more replies, ranges cut at aligned 64 KiB blocks.
struct RangeDigest { LsnRange range; Digest128 digest; bool operator==(const RangeDigest&) const = default; };
constexpr std::size_t kDigestsMax = 32;
struct DigestReply { std::vector<RangeDigest> digests; };
struct Adopt { Lsn adopted_end; };          // Session data starts here.
struct History { TimelineId timeline; std::uint32_t total_bytes = 0; std::uint32_t offset = 0; std::string piece; };
struct PolicyMember { std::string name; NodeId id; LogId log_id; bool operator==(const PolicyMember&) const = default; };
struct PolicyUpdate { std::uint64_t version = 0; std::string text; std::vector<PolicyMember> members; };
struct Bye { std::string text; };
struct Unknown {};  // A kind of a later version that need not be understood.

using Body = std::variant<Unknown, Data, Ack, Probe, Hello, Welcome, Refuse, DigestRequest, DigestReply, Adopt, History, PolicyUpdate, Bye>;

struct Frame {
  FrameHeader header;
  Body body;
};

// Decodes one datagram. kAccepted, or why not (then `out` is unspecified). Data's payload points into `bytes`. Allocates only for handshake kinds.
[[nodiscard]] Verdict decode(std::span<const std::byte> bytes, Frame& out);

// Encodes a control frame (any body but Data) into `out`; returns its length. header.kind is taken from the body. CHECKs that it fits.
std::size_t encode(FrameHeader header, const Body& body, std::span<std::byte> out);
// Encodes a data frame's head (kDataHeaderBytes); the payload of `payload_bytes` follows it on the wire.
std::size_t encode_data_head(FrameHeader header, const Batch& batch, std::size_t payload_bytes, std::span<std::byte> out);

}  // namespace slipstream::protocol
