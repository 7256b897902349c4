#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "node/io.h"
#include "tests/sim/random.h"
#include "tests/sim/state_file.h"
#include "tests/sim/trace.h"
#include "tests/sim/trap.h"
#include "wal/recovery.h"

namespace slipstream::sim {

inline constexpr ByteCount kSegmentSize{std::uint64_t{1} << 20};
inline constexpr Lsn kOrigin{std::uint64_t{3} << 20};  // Where the cluster's WAL begins.
inline constexpr std::uint64_t kSectorBytes = 512;

// A replica's disk: what the processes see (the page cache) and what a power cut leaves. Operations end later, in any
// order. Guarantees: (1) What ended with kOk survives everything. (2) A power cut keeps any subset of the sectors that
// had not.
class ReplicaDisk : public node::Disk, public wal::SegmentSource {
 public:
  ReplicaDisk(Common common, Random random, bool direct)
      : common_(common), random_(random), short_random_(~Random(random).next()), direct_(direct) {}

  bool submit_read(const node::ReadOp& op) override;
  bool submit_write(const node::WriteOp& op) override;
  bool submit_persist(node::PersistOp&& op) override;
  bool submit_history(node::KeepHistoryOp&& op) override;
  std::size_t complete(std::span<node::DiskDone> done) override;
  std::size_t read(Lsn at,
                   std::span<std::byte> out) override;  // As recovery does: what is visible, perhaps less than asked.

  void process_died();  // Some of what was under way happens, visibly; nothing more is durable by it.
  void power_lost();    // Call after the process has died with it: visible is what was durable, and some more.
  void sync(Lsn from);  // Makes durable what is visible from there on.
  void sync_state();    // The same of the state file: a process was killed just after it renamed it.
  // The rest of the log is cleared, and a state takes its place, as app/replica_directory does before it recovers.
  // False: a trap sprang in the midst of it, and nothing is as it was.
  bool clear_from(Lsn at);
  bool replace_state(std::vector<std::byte> content);
  void make_empty(std::vector<std::byte> state);
  struct Copy {
    std::vector<std::byte> state, log;
    Lsn begin;
  };
  Copy copy() const { return {state.visible(), cache_, begin_}; }
  void restore(const Copy& copy);  // The whole directory. The process must be down, as for the next.
  void restore_state(const Copy& copy);
  void remove_below(Lsn begin) { begin_ = begin; }  // Segments.

  std::span<const std::byte> durable() const { return durable_; }
  std::span<const std::byte> visible() const { return cache_; }
  StateFile state;

  bool no_space = false;
  double error = 0;                     // That an operation fails, which ends the process.
  Duration stall{};                     // Operations take up to this longer.
  std::function<void()> at_next_write;  // Happens once, while the next write or persist is under way.
  Trap trap;
  double in_parts = 0;  // That a write is visible in part first, and whole only when it is durable.
  std::function<void()> wake;
  std::function<void()> io_error;
  std::function<void(LsnRange)> on_submit;   // A write is about to reach these positions with...
  std::function<void(LsnRange)> on_durable;  // What is durable has changed there.
  std::function<void()> on_state_durable;
  std::span<const std::byte> submitted;  // ...these bytes.

 private:
  enum class Kind : std::uint8_t { kRead, kWrite, kPersist, kHistory };
  struct Op {
    Kind kind;
    std::uint32_t id;
    Lsn at{};
    std::span<std::byte> into{};
    std::span<const std::byte> from{};
    std::vector<std::byte> content{};
    bool visible = false;
    bool partly = false;
    bool keeps = true;  // False: the disk is full.
  };
  void start(Op op);
  void show(std::uint64_t token);
  void finish(std::uint64_t token);
  void perform(const Op& op);
  bool step() { return trap.step(common_, "disk", Fault::kTrap); }
  void reserve(Lsn end);
  std::size_t index(Lsn at) const { return static_cast<std::size_t>((at - kOrigin).value); }
  Duration some_time();

  Common common_;
  Random random_;
  Random short_random_;  // Its own, so that the others' draws stay what they were.
  bool direct_;
  Lsn begin_ = kOrigin;
  std::vector<std::byte> cache_, durable_;
  std::set<std::uint64_t> dirty_;  // Sectors whose content in the cache no sync has covered.
  std::map<std::uint64_t, Op> ops_;
  std::uint64_t tokens_ = 0;
  std::deque<node::DiskDone> done_;
};

}  // namespace slipstream::sim
