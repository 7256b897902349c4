#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "base/time.h"
#include "protocol/arrival.h"

// The world as the nodes see it: the few things they ask for and are told. Implemented by dataplane/, wal/io, postgres/
// and by the simulator. Nodes never call these; step() does.
namespace slipstream::node {

// ---- Frames -------------------------------------------------------------------------------------------------------

constexpr std::size_t kHeadBytesMax = 1408;  // A control frame is all head, so it passes any MTU of 1500.

// A frame to send: `head` and then `payload`, which points into a node's own memory and is copied or sent before send()
// returns.
struct OutFrame {
  std::array<std::byte, kHeadBytesMax> head;
  std::size_t head_bytes = 0;
  std::span<const std::byte> payload;
  std::uint64_t shared_payload = 0;  // Payloads with the same number are the same bytes, which a port may copy once; 0:
                                     // it is nobody else's.
};

// Into the place of its head and payload together.
inline void copy_frame(const OutFrame& frame, std::span<std::byte> place) {
  copy_bytes(std::span(frame.head).first(frame.head_bytes), place);
  copy_bytes(frame.payload, place.subspan(frame.head_bytes));
}

// Carries frames (our datagrams, from our own header on; Ethernet, IP and UDP are the port's business). Loses, repeats
// and reorders as networks do.
class Port {
 public:
  virtual ~Port() = default;
  virtual void begin_turn(Instant) {}  // What time it is until the next turn.
  // Fills `frames` with up to its size received frames; they stay valid until the next receive().
  virtual std::size_t receive(std::span<protocol::Arrival> frames) = 0;
  // How many frames may be sent to `peer` now. 0 also while its link is down.
  virtual std::size_t room(NodeId peer) = 0;
  virtual void send(NodeId peer,
                    const OutFrame& frame) = 0;  // CHECKs nothing: beyond room() the frame is dropped and counted.
  // The same for a frame of `bytes` that the caller writes itself, all of it, before it calls anything else here: where
  // it goes out from, empty when it is dropped. None: this port has no such place, send() it.
  virtual std::optional<std::span<std::byte>> append(NodeId /*peer*/, std::size_t /*bytes*/) { return std::nullopt; }
  virtual void flush() = 0;                                    // End of a burst.
  virtual std::size_t frame_bytes_max(NodeId peer) const = 0;  // head + payload that fits one datagram to `peer`.
};

// ---- Disk ---------------------------------------------------------------------------------------------------------

enum class DiskStatus : std::uint8_t { kOk, kMissing /* no such segment */, kNoSpace, kFailed };

struct ReadOp {
  std::uint32_t id = 0;       // Chosen by the node, unique among its outstanding operations.
  LsnRange range;             // Within one segment.
  std::span<std::byte> into;  // range.size() bytes, the node's memory, registered with the reader.
  bool bulk = false;          // Catch-up or comparison: may be read with less urgency.
};

struct WriteOp {
  std::uint32_t id = 0;
  Lsn at;                            // Aligned to 4096; bytes.size() too; within one segment.
  std::span<const std::byte> bytes;  // The node's memory, unchanged by it until completion except for bytes beyond what
                                     // this write is to make durable.
};

// The state file, whole: replaced atomically and durably.
struct PersistOp {
  std::uint32_t id = 0;
  std::vector<std::byte> content;
};

// A timeline history file, to be kept durably beside the segments.
struct KeepHistoryOp {
  std::uint32_t id = 0;
  TimelineId timeline;
  std::string content;
};

struct DiskDone {
  std::uint32_t id = 0;
  DiskStatus status = DiskStatus::kOk;
};

// Completion is asynchronous, in any order; after kOk of a write, persist or keep the bytes survive a power cut.
// submit_* take the operation or, when they return false, nothing (try again next turn).
class Disk {
 public:
  virtual ~Disk() = default;
  virtual bool submit_read(const ReadOp& op) = 0;
  virtual bool submit_write(const WriteOp& op) = 0;
  virtual bool submit_persist(PersistOp&& op) = 0;
  virtual bool submit_history(KeepHistoryOp&& op) = 0;
  virtual void start() {
  }  // Starts what was submitted, where that is not done at once: before the turn's frames are sent.
  virtual std::size_t complete(std::span<DiskDone> done) = 0;  // Never waits.
};

// ---- The primary's PostgreSQL ------------------------------------------------------------------------------------

// The replication connection is up; START_REPLICATION was answered.
struct UpstreamConnected {
  SystemId system;
  TimelineId timeline;
  ByteCount segment_size;
  std::uint32_t server_version_num = 0;  // 150020
  Lsn stream_begin;                      // Where the stream starts: the page of flushed_end.
  Lsn flushed_end;
  std::string history;        // Content of the timeline's history file; empty on timeline 1.
  bool all_flushed = false;   // Everything that was written before this connection is flushed up to flushed_end (S1).
  Lsn stale_end{UINT64_MAX};  // Up to here pg_wal may hold pages of a life whose unflushed WAL was lost (S4).
};
// One stretch of the flushed stream, digested and discarded. Never crosses a multiple of 1 MiB (so neither a segment
// nor a node's ring), at most 128 KiB. Contiguous from stream_begin.
struct UpstreamChunk {
  LsnRange range;
  std::uint64_t digest = 0;  // xxh3_64 of its bytes.
};
// PostgreSQL's flushed position as of now (walEnd of 'w' or 'k', or the SQL session's).
struct UpstreamFlushed {
  Lsn flushed_end;
};
struct UpstreamLost {};
// Does every set that satisfies PostgreSQL's own synchronous_standby_names contain us? (R2) Told when it changes, and
// from time to time.
struct UpstreamSyncNames {
  bool contains_us = false;
  std::string value;
  Lsn flushed_end{};  // PostgreSQL's, at that moment or later.
};
// PostgreSQL is shutting down (57P01 on the SQL session, or keepalives in a burst at one position).
struct UpstreamStopping {};
using UpstreamEvent =
    std::variant<UpstreamConnected, UpstreamChunk, UpstreamFlushed, UpstreamLost, UpstreamSyncNames, UpstreamStopping>;

// What to tell PostgreSQL. The three are what the walreceiver protocol calls write, flush and apply.
struct Report {
  Lsn write;
  Lsn flush;
  Lsn apply;
  constexpr bool operator==(const Report&) const = default;
};

// Hot standby feedback: the oldest transactions whose rows a standby still needs, as epoch << 32 | xid; 0: none.
struct StandbyFeedback {
  std::uint64_t xmin = 0;
  std::uint64_t catalog_xmin = 0;
  constexpr bool operator==(const StandbyFeedback&) const = default;
};

class Upstream {
 public:
  virtual ~Upstream() = default;
  virtual bool next_event(UpstreamEvent& event) = 0;  // Never waits.
  virtual void report(const Report& report) = 0;      // Latest wins.
  virtual void advance_slot(Lsn end) = 0;             // Latest wins.
  virtual void feedback(const StandbyFeedback&) {}    // Latest wins.
  virtual void reconnect() = 0;                       // Drop the replication connection and make a new one (C2).
};

// ---- The replica's standby ---------------------------------------------------------------------------------------

struct StandbyConnected {
  Lsn restart_point;  // Where it asked to start: its replay's segment or later. It can start from our log.
  std::string application_name;
};
struct StandbyReply {
  Lsn write;
  Lsn flush;
  Lsn apply;
};
struct StandbyLost {};
using StandbyEvent = std::variant<StandbyConnected, StandbyReply, StandbyFeedback, StandbyLost>;

// How far the standby may be fed.
struct Release {
  Lsn fed_end;              // At most min(final_end, durable_end), a record's end.
  Lsn primary_flushed_end;  // For walEnd: the primary's true end as last heard.
  TimelineId timeline;
  Lsn apply_awaited_end{};  // Somebody waits for having this applied: replies that tell of it are urgent.
  constexpr bool operator==(const Release&) const = default;
};

class Standby {
 public:
  virtual ~Standby() = default;
  virtual bool next_event(StandbyEvent& event) = 0;  // Never waits.
  virtual void release(const Release& release) = 0;  // Latest wins.
};

}  // namespace slipstream::node
