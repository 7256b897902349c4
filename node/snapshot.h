#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ack/level.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "base/time.h"
#include "node/io.h"
#include "node/not_held.h"

// What a node shows of itself: plain values, copied out of it between turns. Status, metrics and tests read this and
// nothing else.
namespace slipstream::node {

struct LagQuantiles {
  Duration p50{};
  Duration p99{};
  std::uint64_t count = 0;
};

struct ReplicaView {
  NodeId id;
  std::string name;
  LogId log_id;        // Of the directory it had when it was heard last.
  std::string state;   // "unreachable", "handshake", "comparing", "catching_up", "streaming", "slow" (streams, but
                       // from files: it fell behind), "refused"
  std::string reason;  // Why, in plain words, when not streaming. (the refusal's text, "the WAL you need is gone: …")
  bool in_policy = false;
  bool counts = false;
  bool candidate = false;
  bool standby_ready = false;
  bool log_only = false;
  bool kept_by_slot = false;  // The primary's slot keeps what it may lack: it needs none of its own any more.
  ack::Ends ends;
  Lsn final_end;
  Lsn sent_end;
  Duration last_heard{};  // Ago.
  Duration round_trip{};
  std::size_t frame_bytes = 0;  // The longest that the path is known to carry; 0: no session.
  std::uint64_t frames_sent = 0;
  std::uint64_t bytes_sent = 0;                // Payload.
  std::uint64_t bytes_resent = 0;              // Payload sent again.
  std::array<LagQuantiles, ack::kLevels> lag;  // Since start.
};

struct PrimaryView {
  std::string state;  // "no_database", "recording_epoch", "running", "superseded", "mismatch", "lost_wal",
                      // "other_cluster", "other_segment_size", "older_timeline"
  std::string reason;
  SystemId system;
  TimelineId timeline;
  Epoch epoch;
  bool counted_by_postgres = true;  // R2
  std::string synchronous_standby_names;
  Lsn flushed_end;
  Lsn valid_end;
  Lsn shipped_end;
  Lsn confirmed_end;
  Lsn slot_end;
  ack::Ends committed;
  std::string policy;
  std::uint64_t policy_version = 0;
  Marks not_held;  // R2: those that some member may lack.
  bool marks_durable = true;
  StandbyFeedback feedback;
  Duration waiting{};  // For how long the quorum has stood still while there is more to commit; 0: it does not.
  std::vector<std::string> waiting_for;  // Then one sentence per unmet term, at level durable.
  std::vector<ReplicaView> replicas;
};

struct ReplicaSelfView {
  std::string state;  // "waiting_for_primary", "comparing", "receiving", "cutting", "fenced", "refused", "no_space"
  std::string reason;
  SystemId system;
  TimelineId timeline;
  LogId log_id;
  Epoch held_epoch;
  Epoch promised_epoch;
  std::string promised_to;  // Candidate's name.
  // Promoted, or about to be: the members that have not promised its term, so that the brain can be split.
  std::vector<std::string> unfenced;
  std::string policy;
  Marks not_held;  // R2: what of it this log does not hold.
  Lsn log_begin;
  Lsn received_end;
  Lsn synced_end;
  Lsn durable_end;
  Lsn apply_awaited_end;  // Of the last commit at remote_apply seen by this process; 0: none.
  Lsn final_end;
  Lsn fed_end;
  Lsn applied_end;
  Lsn primary_flushed_end;
  bool standby_connected = false;
  bool standby_ready = false;
  bool log_only = false;
  StandbyFeedback feedback;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_duplicate = 0;
};

struct PortView {
  std::string name;
  bool up = true;                                                  // Its link. A socket's always is.
  std::uint64_t received = 0, sent = 0, foreign = 0, dropped = 0;  // Packets, or a socket's frames.
  std::uint64_t link_losses = 0;
  std::optional<std::uint64_t> missed;  // Arrived while no room was left: by the device's or the kernel's own count.
  std::uint64_t stalls = 0;             // How often a device took nothing for so long that its queue was reset.
  std::vector<std::string> offloads;    // What the device does of it; software does the rest.
  std::uint64_t chained = 0;            // Packets whose payload was copied for another peer.
};

struct Snapshot {
  std::string name;
  std::string role;                               // "primary" or "replica"
  PrimaryView primary;                            // When role is primary.
  ReplicaSelfView replica;                        // When role is replica.
  std::map<std::string, std::uint64_t> verdicts;  // Refused and accepted frames by verdict name.
  std::string security;                           // "sealed" or "plaintext"
  std::vector<PortView> ports;
  std::uint64_t frames_sealed_once = 0;  // Data frames whose payload had been sealed for another replica.
};

}  // namespace slipstream::node
