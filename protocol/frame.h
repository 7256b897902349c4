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
#include "protocol/arrival.h"
#include "protocol/verdict.h"
#include "seal/exchange.h"
#include "seal/group.h"

// The wire format: one frame per datagram. docs/wire_format.md is the specification, tests/golden/ holds a vector of
// each kind.
namespace slipstream::protocol {

constexpr std::uint16_t kMagic = 0x4c53;  // "SL", little-endian.
constexpr std::uint8_t kFormatVersion = 1;
constexpr std::size_t kHeaderBytes = 112;
constexpr std::size_t kDataHeaderBytes = kHeaderBytes + 24;
constexpr std::size_t kPathProbeHeaderBytes = kHeaderBytes + 8;
constexpr std::size_t kKeyOffset = 32, kPacketNumberOffset = 40, kTagOffset = 96;
// Plaintext: XXH3-128 of all but the tag and the payload of data and path probes. Sealed: the AEAD's tag.
constexpr std::size_t kTagBytes = 16;
constexpr std::uint16_t kMustUnderstand = 0x8000;
// Of a sealed data frame: its payload was sealed for a group (protocol/sealed_frame.h).
constexpr std::uint16_t kGroupSealed = 0x0001;

// Limits, checked on the way in; whoever makes what is sent keeps to them.
constexpr std::size_t kHeaderBytesMax = 512;    // A later version's header may be longer than ours, up to here.
constexpr std::size_t kControlBytesMax = 1408;  // Every kind but data and path probes, whole: passes any MTU of 1436.
constexpr std::size_t kFrameBytesMax = 65507;   // What a UDP datagram carries.
constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kTextBytesMax = 512;  // Refuse and Bye; encode() cuts longer ones.
constexpr std::size_t kPolicyTextBytesMax = 700;
constexpr std::size_t kMembersMax = 16;
constexpr std::size_t kNotHeldMax = 8;
constexpr std::size_t kHistoryPieceBytesMax = 1024;
constexpr std::size_t kHistoryBytesMax = 1 << 20;
constexpr std::size_t kMissingMax = 48;
constexpr std::size_t kDigestsMax = 32;
constexpr std::uint64_t kDigestBlock = 64 * 1024;
constexpr std::uint64_t kBatchBytesMax = 128 * 1024;
constexpr std::uint64_t kBatchBoundary = 1024 * 1024;

enum class FrameKind : std::uint8_t {
  kData = 1,
  kAck = 2,      // Positions, window, and requests for missing ranges.
  kProbe = 3,    // Heartbeat and tail probe: how far was sent; wants an ack.
  kHello = 4,    // Primary opens a session in an epoch.
  kWelcome = 5,  // Replica: what it holds.
  kRefuse = 6,   // Either side: no, and why.
  kDigestRequest = 7,
  kDigestReply = 8,
  kAdopt = 9,        // Primary: compared equal up to here; hold it in this epoch.
  kHistory = 10,     // A piece of a timeline history file.
  kPolicy = 11,      // Policy and members, to be made durable.
  kFence = 12,       // Reserved: promotion over the wire (later).
  kFenceReply = 13,  // Reserved.
  kZeros = 14,       // Reserved: zeros up to a position.
  kBye = 15,         // Orderly end of a session.
  kKeyRequest = 16,  // To agree on keys for sealing (seal/exchange.h).
  kKeyCookie = 17,
  kKeyOpen = 18,
  kKeyReply = 19,
  kGroupKey = 20,  // To a replica: under which data is sealed once for all (seal/group.h).
  kGroupKeyHeld = 21,
  kPathProbe = 22,  // As long as it says: does the path carry that (path_mtu.h)?
  kPathReply = 23,  // It arrived.
  kCut = 24,        // Primary: these bytes are an earlier life's; the log ends before them.
};

struct FrameHeader {
  FrameKind kind = FrameKind::kProbe;
  std::uint16_t flags = 0;
  SystemId cluster;
  std::uint32_t stream = 0;  // 0: physical WAL.
  NodeId source;
  NodeId destination;  // 0xffff: a group.
  SessionId session;
  std::uint32_t key = 0;  // Key id and phase; 0: plaintext.
  std::uint64_t packet_number = 0;
  Epoch epoch;
  TimelineId timeline;
  Lsn position;
  Lsn flushed_end;
  Lsn confirmed_end;
  std::uint64_t sent_at = 0;  // Sender's clock, ns; echoed by acks.
  bool operator==(const FrameHeader&) const = default;
};

// A contiguous stretch read at once; its digest is checked before its bytes count. At most 128 KiB, never across a
// multiple of 1 MiB.
struct Batch {
  LsnRange range;
  std::uint64_t digest = 0;  // xxh3_64
  bool operator==(const Batch&) const = default;
};

struct Data {  // header.position is the payload's.
  Batch batch;
  std::span<const std::byte> payload;
};

struct Ack {
  Lsn received_end;
  Lsn durable_end;
  Lsn applied_end;
  Lsn final_end;
  Lsn window_end;                  // Bytes below are welcome.
  std::uint64_t echo_sent_at = 0;  // Of the newest frame received.
  std::uint64_t echo_delay = 0;    // ns between receiving that and sending this.
  Lsn echo_flushed_end;
  Lsn echo_confirmed_end;
  std::uint64_t policy_version = 0;             // Durable here.
  std::array<LsnRange, kMissingMax> missing{};  // Rising, disjoint, at and above received_end.
  std::size_t missing_count = 0;
  // Tagged extras.
  bool standby_ready = false;
  bool log_only = false;
  Lsn restart_point;
  std::uint64_t standby_xmin = 0;  // epoch << 32 | xmin; 0: none.
  std::uint64_t standby_catalog_xmin = 0;
  bool operator==(const Ack&) const = default;
};

struct Probe {
  Lsn sent_end;  // First byte not sent yet in this session.
  bool wants_ack = true;
  bool operator==(const Probe&) const = default;
};

struct Hello {
  Identity identity;
  std::string primary_name;
  std::uint8_t version_min = kFormatVersion;
  std::uint8_t version_max = kFormatVersion;
  std::uint32_t server_version_num = 0;
  ByteCount segment_size;
  Lsn flushed_end;
  std::uint64_t policy_version = 0;
  bool operator==(const Hello&) const = default;
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
  bool operator==(const Welcome&) const = default;
};

enum class RefuseReason : std::uint8_t {
  kNoSession = 1,  // Never opened, or forgotten in a restart: say hello again.
  kVersion = 2,
  kCluster = 3,  // Another system identifier.
  kSegmentSize = 4,
  kTimeline = 5,        // An older timeline than the log's.
  kStaleEpoch = 6,      // The term or incarnation is below the held or promised one: a superseded primary.
  kOtherIdentity = 7,   // The term has another owner.
  kFenced = 8,          // Promised to a candidate.
  kDivergent = 9,       // Digests differ.
  kPrimaryBehind = 10,  // The primary's flushed position is below what the replica holds.
  kWalGone = 11,        // The primary no longer has the WAL the replica needs.
  kUnknownNode = 12,    // Not configured here, or another node claims the name.
  kDirectory = 13,      // The replica's directory cannot take part (promoted, out of space …).
};
std::string_view to_string(RefuseReason reason);

struct Refuse {
  RefuseReason reason = RefuseReason::kNoSession;
  Epoch promised;
  Identity promised_identity;
  std::string text;  // For people.
  bool operator==(const Refuse&) const = default;
};

// Answered in one or more replies, ranges cut at aligned blocks.
struct DigestRequest {
  LsnRange range;
  bool operator==(const DigestRequest&) const = default;
};
struct RangeDigest {
  LsnRange range;  // Within one block.
  Digest128 digest;
  bool operator==(const RangeDigest&) const = default;
};
struct DigestReply {
  std::vector<RangeDigest> digests;  // Rising, at least one.
  bool operator==(const DigestReply&) const = default;
};
// Session data starts here.
struct Adopt {
  Lsn adopted_end;
  bool operator==(const Adopt&) const = default;
};
// The replica's log differs from the primary's from here on: it is to end there, and is opened anew. A reader that
// skipped this would be waited for in vain, so it must be understood.
struct Cut {
  Lsn from;
  Lsn old_end;  // The durable end that the replica welcomed with.
  bool operator==(const Cut&) const = default;
};
struct History {
  TimelineId timeline;  // Above 1, which has no history.
  std::uint32_t total_bytes = 0;
  std::uint32_t offset = 0;
  std::string piece;
  bool operator==(const History&) const = default;
};
struct PolicyMember {
  std::string name;
  NodeId id;
  LogId log_id;
  bool operator==(const PolicyMember&) const = default;
};
struct PolicyUpdate {
  std::uint64_t version = 0;
  std::string text;
  std::vector<PolicyMember> members;
  // Tagged extra, to be understood: commits between these positions waited for no replica. The last may be open: its
  // end is the highest position there is.
  std::vector<LsnRange> not_held;
  bool operator==(const PolicyUpdate&) const = default;
};
// Travel sealed, or not at all.
struct GroupKey {
  seal::GroupKey key;
  bool operator==(const GroupKey& other) const;
};
struct GroupKeyHeld {
  std::uint32_t id = 0;
  bool operator==(const GroupKeyHeld&) const = default;
};
struct Bye {
  std::string text;
  bool operator==(const Bye&) const = default;
};
// The payload is padding, up to frame_bytes for the whole frame (more where sealing lengthens data).
struct PathProbe {
  std::uint32_t number = 0;  // Rises within a session.
  std::uint32_t frame_bytes = 0;
  bool operator==(const PathProbe&) const = default;
};
struct PathReply {  // What arrived.
  std::uint32_t number = 0;
  std::uint32_t frame_bytes = 0;
  bool operator==(const PathReply&) const = default;
};
// A kind of a later version that need not be understood.
struct Unknown {
  bool operator==(const Unknown&) const = default;
};

using Body = std::variant<Unknown, Data, Ack, Probe, Hello, Welcome, Refuse, DigestRequest, DigestReply, Adopt, History,
                          PolicyUpdate, Bye, seal::KeyRequest, seal::KeyCookie, seal::KeyOpen, seal::KeyReply, GroupKey,
                          GroupKeyHeld, PathProbe, PathReply, Cut>;

struct Frame {
  FrameHeader header;
  Body body;
};

// Decodes one datagram. kAccepted, or why not (then `out` is unspecified). Data's payload points into `bytes`.
// Allocates only for handshake kinds.
[[nodiscard]] Verdict decode(std::span<const std::byte> bytes, Frame& out);
// The same; where the frame is proven its tag is not looked at, and it may say under which key it was sealed.
[[nodiscard]] Verdict decode(const Arrival& frame, Frame& out);

// Encodes a control frame (any body but Data and PathProbe) into `out`, of at least kControlBytesMax; returns its
// length. header.kind is taken from the body, and so is whether it must be understood where a reader of an earlier
// version must not skip it. Texts of Refuse and Bye are cut; that the rest keeps to the limits is
// CHECKed.
std::size_t encode(FrameHeader header, const Body& body, std::span<std::byte> out);
// Whether an update keeps to the limits and into one frame, with room for one range that is not held: names of 15 bytes
// with 16 members and the longest text. To be asked where policies are made.
bool fits(const PolicyUpdate& update);
// Encodes a data frame's head (kDataHeaderBytes); the payload of `payload_bytes`, at header.position within the batch,
// follows it on the wire.
std::size_t encode_data_head(FrameHeader header, const Batch& batch, std::size_t payload_bytes,
                             std::span<std::byte> out);
// Encodes a path probe's head (kPathProbeHeaderBytes); zeros follow it on the wire, up to probe.frame_bytes.
std::size_t encode_path_probe_head(FrameHeader header, const PathProbe& probe, std::span<std::byte> out);
// Gives an encoded path probe, of which `head` is the head, a payload so much longer.
void lengthen_path_probe(std::span<std::byte> head, std::size_t more_bytes);

}  // namespace slipstream::protocol
