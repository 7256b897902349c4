#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ack/policy.h"
#include "base/ids.h"
#include "base/time.h"
#include "node/held.h"
#include "node/io.h"
#include "node/snapshot.h"
#include "node/state_file.h"
#include "protocol/arrival.h"
#include "protocol/rate_control.h"
#include "protocol/verdict.h"

namespace slipstream::node {

struct PrimaryOptions {
  NodeId id;
  std::string name;
  std::vector<ack::Member> replicas;               // Every configured replica, in or out of the policy.
  std::string policy;                              // Text; parsed against `replicas`.
  Duration candidate_timeout = milliseconds(500);  // FIRST's failure detector: unheard for this long is no candidate.
  Duration heartbeat = milliseconds(100);
  std::optional<ByteCount> catch_up_rate;  // A second, read again for replicas that catch up; 0: no limit. (Pace)
  // A replica whose backlog exceeds it is served from files. Absent, or more than the ring: what the ring holds.
  std::optional<ByteCount> slow_backlog;
  std::vector<protocol::RateLimits> rate_limits;  // Of the first so many of `replicas`; the others have none.
  std::uint64_t random_seed = 0;                  // Handed in; the core has no randomness of its own.
  bool ship_written = false;                      // WAL goes out as soon as it is written, not once it is flushed.
};

// The primary's daemon without its IO: ships flushed WAL to every replica, confirms it, gathers acknowledgements into
// the policy's quorum, and says what may be reported to PostgreSQL. Guarantees: (1) report() never exceeds
// min(committed end, valid_end) and never falls over one connection. (R1)
//   (2) Nothing is shipped beyond flushed_end unless ship_written asks for it, and then complete, valid records alone;
//   nothing is called confirmed before PostgreSQL's own stream, or a second reading of files that flushed_end has
//   passed, had the same digest. (C1, C2) (3) Its epoch is durable before any
//   frame carries it. (E1) (4) Once superseded it reports nothing more. (E2)
// Ownership: `ring` (a power of two of at least 4 MiB) and `catch_up_memory` are the driver's memory, registered with
// its reader, used by this node alone. Threading: one thread.
class PrimaryNode {
 public:
  PrimaryNode(PrimaryOptions options, State state, std::span<std::byte> ring, std::span<std::byte> catch_up_memory,
              Instant now);
  ~PrimaryNode();

  // Inputs.
  void on_upstream(const UpstreamEvent& event, Instant now);
  bool wants_upstream() const;  // False while more chunks wait to be read than should: leave events where they are.
  [[nodiscard]] protocol::Verdict on_frame(const protocol::Arrival& frame, Instant now);
  void on_written();                         // PostgreSQL has written to its WAL files.
  void on_disk(DiskDone done, Instant now);  // Completion of a read or persist of ours.
  void on_deadline(Instant now);

  // Outputs, pulled until they say no.
  bool next_frame(NodeId peer, std::size_t frame_bytes_max, OutFrame& out, Instant now);
  std::optional<ReadOp> next_read();
  std::optional<PersistOp> next_persist();
  Report report() const;
  // The least final end of all that were heard; 0, leave the slot alone, while one that was met before is awaited.
  Lsn slot_end() const;
  StandbyFeedback feedback(Instant now) const;  // The oldest of what the standbys of connected replicas need.
  bool take_reconnect();                        // True once after a mismatch: the connection must be made anew. (C2)
  PrimaryHeld& held() { return held_; }         // For step().
  Instant deadline() const;                     // When on_deadline() wants to be called at the latest.

  std::span<const ack::Member> peers() const;
  Snapshot snapshot(Instant now) const;

 private:
  struct Impl;  // Composed of small machines; see primary_node.cc.
  std::unique_ptr<Impl> impl_;
  PrimaryHeld held_;
};

}  // namespace slipstream::node
