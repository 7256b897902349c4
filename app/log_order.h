#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "node/replica_node.h"

namespace slipstream::app {

// The first range of which both hold a digest and these differ, as its begin.
std::optional<Lsn> first_difference(const node::Evidence& a, const node::Evidence& b);
// Under which epoch the byte at `at` is held: held_epoch below counted_end, the tail's own beyond it (E5).
Epoch label_at(const node::Evidence& evidence, Lsn at);

// Which of two logs is to be promoted (P4).
struct LogOrder {
  enum class Better : std::uint8_t { kFirst, kSecond, kNeither };
  Better better = Better::kFirst;
  std::string why_neither;  // In words, with both names: what contradicts the rules, or cannot be known.
};

// The longer, if one is a prefix of the other as far as the digests say (a tie goes to the first); else the one with
// the later label at the first difference. Neither: both hold other bytes, or another owner, of the same epoch; or the
// longer is of an earlier epoch, and no digests say whether the other is a prefix of it.
LogOrder order_of(const node::Evidence& a, const node::Evidence& b);

// Whether log `a` is better than log `b`, and not merely as good.
bool better_log(const node::Evidence& a, const node::Evidence& b);

// What a candidate needs digests of besides its own blocks, so that all that the others hold is compared: their last
// blocks end where theirs do.
std::vector<LsnRange> compared_ranges(std::span<const node::Evidence> others);
// Those of `wanted` that lie within the log, within one block each, and of which there is no digest yet.
std::vector<LsnRange> missing_ranges(const node::Evidence& evidence, std::span<const LsnRange> wanted);

}  // namespace slipstream::app
