#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "node/not_held.h"

namespace slipstream::node {

// From `begin` on, bytes were written in `epoch` by `identity` on `timeline`.
struct EpochEntry {
  Epoch epoch;
  Lsn begin;
  TimelineId timeline;
  Identity identity;
  bool operator==(const EpochEntry&) const = default;
};

// The highest epoch this node has promised to obey, and to whom (P2, E1).
struct Promise {
  Epoch epoch;
  Identity identity;      // Of the primary that owns the term; none while only a candidate is known.
  std::string candidate;  // Name of the node being promoted; empty outside a promotion.
  bool operator==(const Promise&) const = default;
};

struct MemberRecord {
  std::string name;
  NodeId id;
  LogId log_id;
  bool operator==(const MemberRecord&) const = default;
};

struct PolicyRecord {
  std::uint64_t version = 0;
  std::string text;
  std::vector<MemberRecord> members;
  bool operator==(const PolicyRecord&) const = default;
};

struct Tail {  // Bytes kept under an old epoch beyond counted_end (E5).
  LsnRange range;
  Epoch epoch;
  bool operator==(const Tail&) const = default;
};

struct ReplacementIntent {  // E6: from here the log is being replaced; its old end.
  Lsn from;
  Lsn old_end;
  bool operator==(const ReplacementIntent&) const = default;
};

// Everything a node must remember across a crash, primary and replica alike. (docs/segment_format.md has the bytes.)
struct State {
  enum class Role : std::uint8_t { kPrimary = 1, kReplica = 2 };
  Role role = Role::kReplica;
  SystemId system;
  ByteCount segment_size;
  TimelineId timeline;
  std::uint64_t page_magic = 0;

  // Replica.
  LogId log_id;
  Lsn log_begin;   // First byte kept. A segment's start.
  Lsn scan_begin;  // A record's start (or log_begin) at or below every acknowledged durable end: recovery starts here.
  bool scan_begin_is_record = false;
  Epoch held_epoch;            // E5
  Lsn counted_end;             // E5
  Lsn final_end;               // C3
  bool standby_ready = false;  // Q2
  bool log_only = false;
  bool promoted = false;               // A promotion from this log was completed: it is history now.
  std::vector<MemberRecord> unfenced;  // P5: members without this term's promise when it was promoted from this log.
  std::vector<EpochEntry> epoch_map;
  std::vector<Tail> tails;
  std::optional<ReplacementIntent> replacement;

  // Both.
  Marks not_held;  // R2. Told and kept with the policy's version.
  Promise promise;
  PolicyRecord policy;
  // Primary: a change that is not yet durable on replicas satisfying both (Q5).
  std::optional<PolicyRecord> pending_policy;

  // Primary.
  Epoch own_epoch;
  Identity identity;
  std::string machine;      // machine-id and data directory inode that the identity belongs to.
  bool superseded = false;  // E2: a higher term was heard of; never report again.
  std::string timeline_history;
  std::vector<MemberRecord> met;  // Replicas in and out of the policy whose WAL the slot keeps.

  bool operator==(const State&) const = default;
};

// Versioned, checksummed, tagged fields with a must-understand bit; unknown ones without that bit are kept out but
// skipped.
std::vector<std::byte> encode(const State& state);
std::expected<State, Error> decode_state(std::span<const std::byte> file, std::string_view path);

}  // namespace slipstream::node
