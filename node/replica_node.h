#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "node/held.h"
#include "node/io.h"
#include "node/snapshot.h"
#include "node/state_file.h"
#include "protocol/arrival.h"
#include "protocol/verdict.h"
#include "wal/ledger.h"
#include "wal/recovery.h"

namespace slipstream::node {

struct ReplicaOptions {
  NodeId id;
  std::string name;
  NodeId primary;
  bool log_only = false;
  Duration heartbeat = milliseconds(100);
};

// What a member answers to a fence (P2), and what `slipstream fence`/`position` print.
struct Evidence {
  std::string name;
  NodeId id;
  LogId log_id;
  SystemId system;
  TimelineId timeline;
  Promise promise;
  Epoch held_epoch;
  Lsn counted_end;
  Lsn log_begin;
  Lsn durable_end;
  Lsn final_end;
  bool standby_ready = false;
  bool log_only = false;
  std::vector<EpochEntry> epoch_map;
  PolicyRecord policy;
  Marks not_held;                        // As told with this policy's version (R2).
  std::vector<wal::BlockDigest> blocks;  // From at most 256 blocks below final_end to durable_end.
};

// The replica's daemon without its IO: turns frames into a durable prefix of the primary's WAL, says how much of it is
// received, durable, final and applied, and how far its standby may be fed. Guarantees: (1) received_end >= synced_end
// >= durable_end >= fed_end; none decreases within a session, durable_end and final_end never.
//   (2) An ack carries the ends of the moment it is encoded. (3) A frame that is refused changes no state but a
//   counter. (4) durable_end is the end of a complete, valid record wholly on stable storage, so recovery always finds
//   it again. (5) held_epoch is durable before the first ack in that epoch (E5). (6) Once it promised a higher term it
//   acknowledges no older one (P2).
// Ownership: `ring` (a power of two, at least 4 MiB, 4096-aligned) is the driver's memory, used by this node alone; `at
// % size` holds the byte at `at`. On construction
//   the driver has filled the 4 KiB block that holds `recovered.durable_end` from disk (zeros beyond it).
class ReplicaNode {
 public:
  ReplicaNode(ReplicaOptions options, State state, wal::Recovered recovered, std::span<std::byte> ring,
              std::span<std::byte> compare_memory, Instant now);
  ~ReplicaNode();

  // Inputs.
  [[nodiscard]] protocol::Verdict on_frame(const protocol::Arrival& frame, Instant now);
  void on_disk(DiskDone done, Instant now);  // Completion of a write, read, persist or history of ours.
  void on_standby(const StandbyEvent& event, Instant now);
  void on_deadline(Instant now);
  // Retention: the log may begin at `wanted` from now on. Goes no further than what was fed and what recovery starts
  // from, and nowhere while a session is being opened (it was told where the log begins); segments below log_begin()
  // may be removed.
  void raise_log_begin(Lsn wanted);
  Lsn log_begin() const;  // Durable.
  // An orderly stop: called between turns until it says true. Then everything received is on stable storage (R3), and
  // so are the positions of that moment: whatever the log lacks when it is opened again was damaged meanwhile.
  bool settle();

  // The primary has found where the log differs from its own, and asked that it ends there (`Cut`): that is durable in
  // the state file (State::replacement), and nothing more is done here. The driver ends this node and opens the
  // directory anew, which cuts the log.
  bool wants_reopen() const;

  // Outputs.
  bool next_frame(NodeId peer, std::size_t frame_bytes_max, OutFrame& out, Instant now);
  std::optional<WriteOp> next_write(Instant now);
  std::optional<ReadOp> next_read();
  std::optional<PersistOp> next_persist();
  std::optional<KeepHistoryOp> next_history();
  Release release() const;
  // The part of the durable log that `ring` holds, until the next turn; both ends are multiples of 8. Empty outside a
  // session.
  LsnRange durable_in_ring() const;
  ReplicaHeld& held() { return held_; }  // For step().
  Instant deadline() const;

  // Promotion (driven by the operator over the control socket; each is followed by persisting).
  // Promises `term` to `candidate`. From then on no older term is acknowledged. Refused: a term not above the promised
  // one, another candidate's promise for the same term (unless `supersede`).
  std::expected<void, Error> fence(std::uint32_t term, const std::string& candidate, bool supersede, Instant now);
  // True once the promise is durable and everything received has been made durable: evidence() is final then.
  bool fenced() const;
  Evidence evidence() const;  // Without blocks: the driver adds them from the files.
  bool released() const;
  // P5: feed all that is durable, after a fence. `unfenced`: the members that have not promised this term; remembered
  // durably until each has.
  void release_everything(std::vector<MemberRecord> unfenced = {});
  void mark_promoted();  // P5: persisted; the log takes no primary any more.
  // A member's answer to the fence came after the promotion: it is no longer among the unfenced. Refused: a promise for
  // another candidate or term, another log than the member's.
  std::expected<void, Error> member_fenced(const Evidence& member);
  // The operator's word that this member's directory is gone for good, so that it can never be fenced.
  std::expected<void, Error> member_destroyed(const std::string& name);
  bool promotion_durable() const;  // What the last four persist has survived.

  Snapshot snapshot(Instant now) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  ReplicaHeld held_;
};

}  // namespace slipstream::node
