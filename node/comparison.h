#pragma once

#include <optional>
#include <span>
#include <vector>

#include "node/io.h"
#include "protocol/frame.h"
#include "wal/ledger.h"

namespace slipstream::node {

// Compares a replica's log with the primary's own files, block by block (E4): asks for digests a window at a time,
// reads the same blocks, and says where they first differ. Guarantees: (1) done() only after every byte from the begin
// to the end had equal digests, except blocks below what is final whose files the primary has removed. (2) Blocks are
// taken in order, one at a time, so the first difference is the one that is named. (3) search() goes on within the
// block that differed, halving it, until compared_end() is the first byte that differs: found only if that byte itself,
// read again, does. If none does any more, the comparison goes on behind them.
class Comparison {
 public:
  enum class Outcome : std::uint8_t { kGoesOn, kDone, kDifferent, kFound, kGone };

  // `log` from 16 MiB below `final_end` on; nothing above `known_final_end` may be missing.
  void start(LsnRange log, Lsn final_end, Lsn known_final_end);
  bool done() const { return compared_end_ >= end_; }
  void search();  // After kDifferent; leads to kFound.
  // The digests to ask for; nothing while the last answer is being worked on.
  std::optional<LsnRange> wanted() const;
  protocol::Verdict on_reply(const protocol::DigestReply& reply);
  // The next own block to read; then on_block() with what was read, empty when its file is gone.
  std::optional<LsnRange> next_block();
  Outcome on_block(std::span<const std::byte> bytes);

  LsnRange block() const { return theirs_[index_].range; }  // The one being read.
  Lsn compared_end() const { return compared_end_; }
  Lsn known_final_end() const { return known_final_end_; }

 private:
  LsnRange window() const;
  Outcome halve(LsnRange half, bool different);

  Lsn compared_end_{};
  Lsn end_{};
  Lsn known_final_end_{};
  std::optional<Lsn> different_end_;           // While searching: below it lies the first byte that differs.
  std::vector<protocol::RangeDigest> theirs_;  // Of the window, once they came.
  std::size_t index_ = 0;                      // The next of them to compare.
  bool reading_ = false;
};

}  // namespace slipstream::node
