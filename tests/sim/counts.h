#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/time.h"

namespace slipstream::sim {

enum class Fault : std::uint8_t {
  kLoss,
  kBurst,
  kDuplicate,
  kReorder,
  kCorruption,
  kTruncation,
  kReplay,
  kAimedDamage,
  kForged,
  kOlderSession,
  kNarrowLink,
  kTooLong,
  kPartition,
  kSmallerFrames,
  kFullPort,
  kReplicaCrash,
  kReplicaPowerLoss,
  kReplicaPause,
  kEmptyDirectory,
  kReplicaRestored,
  kReplicaStateRestored,
  kTornWrite,
  kLostWrite,
  kTrap,
  kPrimaryTrap,
  kShortWrite,
  kBitRot,
  kMisdirectedWrite,
  kSlowDisk,
  kWriteError,
  kNoSpace,
  kStateReverted,
  kOldSegmentsGone,
  kStandbyRestart,
  kConnectionLost,
  kLateReport,
  kPrimaryPause,
  kPrimaryCrash,
  kPrimaryPowerLoss,
  kPrimaryStateLost,
  kPrimaryRestored,
  kServerCrash,
  kServerStop,
  kRewrittenWal,
  kAbandonedRecord,
  kSpoiledRead,
  kReadError,
  kShortRead,
  kPolicyChange,
  kPrimaryGone,
  kPrimaryCutOff,
};
inline constexpr std::array kFaultNames{"loss",
                                        "burst",
                                        "duplicate",
                                        "reorder",
                                        "corruption",
                                        "truncation",
                                        "replay",
                                        "aimed_damage",
                                        "forged",
                                        "older_session",
                                        "narrow_link",
                                        "too_long",
                                        "partition",
                                        "smaller_frames",
                                        "full_port",
                                        "replica_crash",
                                        "replica_power_loss",
                                        "replica_pause",
                                        "empty_directory",
                                        "replica_restored",
                                        "replica_state_restored",
                                        "torn_write",
                                        "lost_write",
                                        "trap",
                                        "primary_trap",
                                        "short_write",
                                        "bit_rot",
                                        "misdirected_write",
                                        "slow_disk",
                                        "write_error",
                                        "no_space",
                                        "state_reverted",
                                        "old_segments_gone",
                                        "standby_restart",
                                        "connection_lost",
                                        "late_report",
                                        "primary_pause",
                                        "primary_crash",
                                        "primary_power_loss",
                                        "primary_state_lost",
                                        "primary_restored",
                                        "server_crash",
                                        "server_stop",
                                        "rewritten_wal",
                                        "abandoned_record",
                                        "spoiled_read",
                                        "read_error",
                                        "short_read",
                                        "policy_change",
                                        "primary_gone",
                                        "primary_cut_off"};

enum class Check : std::uint8_t {
  kAckReceived,  // Promise 1, by level.
  kAckDurable,
  kAckApplied,
  kAckRemembered,  // What an ack says of policy, epoch and standby is in the state file.
  kReportHeld,     // Promise 2.
  kReportValid,
  kFedConfirmed,    // Promise 3.
  kFedEqual,        // What a feed finds in memory.
  kNothingOlder,    // Promise 4.
  kFinalEqual,      // Promise 5.
  kWholeLogEqual,   // Promise 5, every byte.
  kCommitsSurvive,  // Promise 9, at every instant.
  kCommitCovered,   // Promise 9, at each commit.
  kMonotone,
  kOnlyAuthentic,   // Promises 4 and 6: frames that are not what their sender sent, or of a past epoch, one by one.
  kWriteHarmless,   // A write under way cannot damage what is durable.
  kWindowFits,      // What is welcome finds its place in memory.
  kDamageNoticed,   // Of a log that is opened.
  kRepairsBounded,  // At most twice what was lost is sent again.
  kUsedOnce,        // Epochs and policy versions, over all lives of a primary, also from an older copy of its state.
  kRecovery,        // What recovery finds is what survives.
  kCaughtUp,        // After healing.
  kPromotion,       // Promise 9, at the end: the promoted log has every commit.
};
inline constexpr std::array kCheckNames{
    "ack_received",    "ack_durable", "ack_applied",    "ack_remembered", "report_held",     "report_valid",
    "fed_confirmed",   "fed_equal",   "nothing_older",  "final_equal",    "whole_log_equal", "commits_survive",
    "commit_covered",  "monotone",    "only_authentic", "write_harmless", "window_fits",     "damage_noticed",
    "repairs_bounded", "used_once",   "recovery",       "caught_up",      "promotion"};

// What happened in a run, or in many.
struct Counts {
  std::uint64_t events = 0;  // Without turns in which nothing happened.
  std::uint64_t frames = 0;
  std::uint64_t commits = 0;  // Acknowledged to clients.
  std::uint64_t sessions = 0;
  Duration simulated{};
  std::array<std::uint64_t, kFaultNames.size()> faults{};
  std::array<std::uint64_t, kCheckNames.size()> checks{};

  void note(Fault fault) { ++faults[static_cast<std::size_t>(fault)]; }
  void note(Check check) { ++checks[static_cast<std::size_t>(check)]; }
  void add(const Counts& other) {
    events += other.events, frames += other.frames, commits += other.commits, sessions += other.sessions;
    simulated = simulated + other.simulated;
    for (std::size_t i = 0; i < faults.size(); ++i) faults[i] += other.faults[i];
    for (std::size_t i = 0; i < checks.size(); ++i) checks[i] += other.checks[i];
  }
};

}  // namespace slipstream::sim
