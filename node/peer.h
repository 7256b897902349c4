#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ack/policy.h"
#include "ack/quorum.h"
#include "node/catch_up.h"
#include "node/comparison.h"
#include "node/io.h"
#include "node/last_record.h"
#include "node/pace.h"
#include "node/read_slots.h"
#include "node/ship_log.h"
#include "node/snapshot.h"
#include "protocol/frame.h"
#include "protocol/path_mtu.h"
#include "protocol/sender.h"

namespace slipstream::node {

// What the primary says alike to every replica: as of now, looked at by peers, owned by PrimaryNode.
struct PrimaryFacts {
  bool running = false;  // Connected, and the epoch is durable: handshakes may go out.
  bool superseded = false;
  NodeId id;
  std::string name;
  Identity identity;
  SystemId system;
  Epoch epoch;
  Epoch earlier_epoch;  // The last that other lives of this primary opened, as far as is known.
  TimelineId timeline;
  ByteCount segment_size;
  std::uint32_t server_version_num = 0;
  std::string history;
  Lsn flushed_end;
  Lsn confirmed_end;
  Lsn valid_end;
  Lsn flushed_at_connection;  // Commits below may have been acknowledged in earlier lives.
  bool goes_ahead = false;    // WAL is shipped as soon as it is written.
  Lsn apply_awaited_end;      // Of the last commit seen then whose client waits for its being applied.
  bool may_cut = false;       // And none beyond: all that was written before the connection lies below (S1).
  std::uint64_t policy_version = 0;
  std::string policy_text;
  std::vector<protocol::PolicyMember> members;
  Marks not_held;
  Duration heartbeat{};
  Duration candidate_timeout{};
  ByteCount slow_backlog;
};

// The primary's view of one replica: opens sessions, compares logs, adopts, ships from memory or files, and keeps what
// was acknowledged. Guarantees: (1) ends() rise within a session and start from what its handshake reported (Q1). (2)
// acks() counts only once it streams in this session, with the current
//   policy durable there that names its log a member (Q4), and a usable standby (Q2). (3) Data goes out only after
//   every digest of the comparison was equal (E4). (4) What it lacks is taken from memory only within slow_backlog of
//   the log's end, else from files at the pace that the others' commits stand: a slow replica slows nobody else.
class Peer {
 public:
  // `memory` and read operations from `first_operation` on are this peer's own (ReadSlots).
  Peer(ack::Member member, const PrimaryFacts& facts, const ShipLog& log, std::span<std::byte> memory,
       std::uint32_t first_operation, protocol::RateLimits limits = {});

  [[nodiscard]] protocol::Verdict on_frame(const protocol::Frame& frame, Instant now);
  void on_read(std::size_t slot, DiskStatus status, Instant now);
  void on_deadline(Instant now);
  void drop_session();             // Nothing more goes out or counts until the next epoch.
  void on_new_epoch(Instant now);  // Everything starts over with a handshake.
  void on_policy_changed(Instant now);

  bool next_frame(std::size_t frame_bytes_max, OutFrame& out, Instant now);
  std::optional<ReadOp> next_read(Pace& pace);
  bool wants_catch_up() const;  // More from files, when the pace allows.
  Instant deadline() const;

  const ack::Member& member() const { return member_; }
  ack::ReplicaAcks acks(Instant now) const;
  const ack::Ends& ends() const { return ends_; }
  Lsn final_end() const { return final_end_; }
  StandbyFeedback feedback(Instant now) const;  // Its standby's, until the session ends or it has been silent for long.
  bool ever_heard() const { return ever_welcomed_; }
  LogId log_id() const { return log_id_; }
  std::uint64_t policy_version() const { return policy_version_; }
  bool welcomed() const { return state_ != State::kIdle && state_ != State::kHello; }  // In this session.
  bool streaming() const { return state_ == State::kActive && streaming_; }
  bool holds_what_was_valid() const {
    return streaming() && ends_[ack::Level::kDurable] >= valid_target_;
  }  // As of when it joined: every record that was complete then.
  // And they are final: what it lacks after a crash lies beyond.
  bool final_to_what_was_valid() const { return streaming() && final_end_ >= valid_target_; }
  // Where the last record ends at or below `position`, where that is known: that of when it joined.
  std::optional<Lsn> last_record_below(Lsn position) const {
    return streaming() && !last_record_ && position == aimed_at_ ? std::optional(valid_target_) : std::nullopt;
  }
  // Another replica has the same log id: one directory is a copy of the other's.
  void refuse_copy(const std::string& of, Instant now);
  // A promise of a higher term, or of our term to another owner: this primary is superseded (E2).
  const std::optional<protocol::Refuse>& superseding() const { return superseding_; }
  // Once: an epoch of this primary's, above those of earlier lives, that the replica knows of from another life of it
  // (E1).
  std::optional<Epoch> take_used_epoch() { return std::exchange(used_epoch_, std::nullopt); }
  void fill(ReplicaView& view, Instant now) const;

 private:
  enum class State : std::uint8_t { kIdle, kHello, kComparing, kCutting, kAdopting, kActive, kRefused };
  protocol::FrameHeader header(Instant now, Lsn position = {});
  void send_later(protocol::Body body) { control_.push_back(std::move(body)); }
  void begin_handshake(Instant now);
  void say_hello(Instant now);
  void refuse(protocol::RefuseReason reason, std::string text, Instant now);
  void start_comparison(Instant now);
  void go_on_comparing(Comparison::Outcome outcome, LsnRange block, Instant now);
  void on_compared(Instant now);
  void on_difference(LsnRange block, Instant now);
  void send_adoption(Instant now);
  bool may_cut() const;
  void send_cut(Instant now);
  void refuse_divergent(LsnRange block, Instant now);
  // Of this server's WAL: what it has flushed, and what was shipped ahead of that.
  Lsn known_end() const { return std::max(facts_.flushed_end, facts_.valid_end); }
  protocol::Verdict on_welcome(const protocol::Welcome& welcome, Instant now);
  protocol::Verdict on_digests(const protocol::DigestReply& reply, Instant now);
  protocol::Verdict on_ack(const protocol::Ack& ack, Instant now);
  protocol::Verdict on_refuse(const protocol::FrameHeader& from, const protocol::Refuse& refuse, Instant now);
  Duration news_hold() const;
  void offer_batches();
  bool next_path_probe(OutFrame& out, Instant now);
  bool next_data(std::size_t frame_bytes, OutFrame& out, Instant now);
  void mark_targets();
  void look_for_last_record(LsnRange offered, std::span<const std::byte> bytes);
  void take_last_record();
  void look_at_progress();
  void look_for_slowness(Instant now);
  Lsn live_begin() const;
  void look_for_black_hole(Instant now);

  ack::Member member_;
  const PrimaryFacts& facts_;
  const ShipLog& log_;
  const protocol::RateLimits limits_;

  State state_ = State::kIdle;
  std::string reason_;
  SessionId session_{};
  std::uint64_t packet_number_ = 0;
  Instant retry_at_{};
  Instant last_heard_{};
  bool heard_ = false;
  std::deque<protocol::Body> control_;
  ReadSlots slots_;

  // What the replica told.
  bool ever_welcomed_ = false;
  protocol::Welcome welcome_;
  LogId log_id_{};
  ack::Ends ends_{};
  Lsn final_end_{};
  std::uint64_t policy_version_ = 0;
  bool standby_ready_ = false;
  bool log_only_ = false;
  StandbyFeedback feedback_;
  std::optional<protocol::Refuse> superseding_;
  std::optional<Epoch> used_epoch_;
  std::vector<Epoch> adopted_in_;  // An Adopt went out: whatever the replica holds in it may be of this life.

  Comparison comparison_;

  // Session.
  std::optional<protocol::Sender> sender_;
  protocol::PathMtu path_{Instant{}};
  CatchUp catch_up_;
  Lsn read_cursor_{};  // Catch-up: files were asked for up to here.
  bool streaming_ =
      false;           // Once it had all that was shipped when it last looked, it counts for the rest of the session.
  bool slow_ = false;  // It streams, but its backlog exceeded slow_backlog, and is not down to half of that yet.
  Lsn shipped_target_{};                   // What it has to have received for that,
  Lsn aimed_at_{};                         // and what was valid then.
  Lsn valid_target_{};                     // The same; once it is known, the end of the last record in it.
  std::optional<LastRecord> last_record_;  // Until it is.
  bool policy_told_ = false;               // In this session.
  std::uint64_t frames_before_ = 0, bytes_before_ = 0, resent_before_ = 0;  // Of earlier sessions.
};

}  // namespace slipstream::node
