#include "app/log_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace slipstream::app {
namespace {

using Better = LogOrder::Better;

// Calls `compare` with the digests of each range that both have, in order.
template <class Compare>
void for_common_blocks(const node::Evidence& a, const node::Evidence& b, Compare&& compare) {
  std::map<std::pair<std::uint64_t, std::uint64_t>, Digest128> known;
  for (const wal::BlockDigest& block : a.blocks) known[{block.range.begin.value, block.range.end.value}] = block.digest;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Digest128> theirs;
  for (const wal::BlockDigest& block : b.blocks)
    theirs[{block.range.begin.value, block.range.end.value}] = block.digest;
  for (const auto& [range, digest] : theirs)
    if (const auto it = known.find(range); it != known.end())
      compare(LsnRange{Lsn{range.first}, Lsn{range.second}}, it->second == digest);
}

// Whose log it is, in its latest epoch.
std::optional<Identity> owner(const node::Evidence& evidence) {
  const auto latest = std::ranges::max_element(evidence.epoch_map, {}, &node::EpochEntry::epoch);
  return latest == evidence.epoch_map.end() ? std::nullopt : std::optional(latest->identity);
}

// What is final in a log never changes at its owner (C3). So what another log got of it, or was compared with, when the
// same owner had the same epoch or a later one, is equal.
Lsn equal_by_owner(const node::Evidence& a, const node::Evidence& b) {
  if (a.held_epoch.term != b.held_epoch.term || !owner(a) || owner(a) != owner(b)) return {};
  const auto& [later, earlier] = a.held_epoch < b.held_epoch ? std::tie(b, a) : std::tie(a, b);
  const Lsn end = std::min(earlier.final_end, later.durable_end);
  if (end <= later.log_begin) return {};
  return label_at(later, Lsn{end.value - 1}) == later.held_epoch ? end : Lsn{};  // No tail of another epoch.
}

// Up to where both are known to be equal. What is final in both is. Where one begins later than the other is final, it
// is compared from its beginning on, if there is a whole block to compare: histories that parted do not meet again.
Lsn equal_end(const node::Evidence& a, const node::Evidence& b) {
  Lsn end = std::max(std::min(a.final_end, b.final_end), equal_by_owner(a, b));
  const Lsn both_begin = std::max(a.log_begin, b.log_begin);
  if (both_begin + ByteCount{wal::kBlockBytes} <= std::min(a.durable_end, b.durable_end))
    end = std::max(end, both_begin);
  for_common_blocks(a, b, [&](LsnRange range, bool equal) {
    if (equal && range.begin <= end) end = std::max(end, range.end);
  });
  return end;
}

// An epoch has one owner and one timeline.
std::optional<Epoch> contradiction(const node::Evidence& a, const node::Evidence& b) {
  for (const node::EpochEntry& x : a.epoch_map)
    for (const node::EpochEntry& y : b.epoch_map)
      if (x.epoch == y.epoch && (x.identity != y.identity || x.timeline != y.timeline)) return x.epoch;
  return std::nullopt;
}

LogOrder by_label(Epoch of_a, Epoch of_b) { return {of_a < of_b ? Better::kSecond : Better::kFirst, ""}; }

LogOrder without_difference(const node::Evidence& a, const node::Evidence& b) {
  const Lsn compared = equal_end(a, b), common_end = std::min(a.durable_end, b.durable_end);
  const LogOrder longer{a.durable_end < b.durable_end ? Better::kSecond : Better::kFirst, ""};
  if (compared >= common_end) return longer;
  const Epoch of_a = label_at(a, compared), of_b = label_at(b, compared);
  if (of_a == of_b) return longer;
  const LogOrder later = by_label(of_a, of_b);
  if (a.durable_end == b.durable_end || later.better == longer.better) return later;
  const auto& [ahead, behind] = longer.better == Better::kFirst ? std::tie(a, b) : std::tie(b, a);
  return {
      Better::kNeither,
      fmt::format("{} ends later ({}) than {} ({}), but holds what is behind {} of an earlier epoch ({}, against "
                  "{}), and no digests say whether they are equal to there",
                  ahead.name, to_string(ahead.durable_end), behind.name, to_string(behind.durable_end),
                  to_string(compared), to_string(label_at(ahead, compared)), to_string(label_at(behind, compared)))};
}

}  // namespace

Epoch label_at(const node::Evidence& evidence, Lsn at) {
  Epoch label;
  for (const node::EpochEntry& entry : evidence.epoch_map)
    if (entry.begin <= at) label = std::max(label, entry.epoch);
  return at < evidence.counted_end ? std::max(label, evidence.held_epoch) : label;
}

std::optional<Lsn> first_difference(const node::Evidence& a, const node::Evidence& b) {
  std::optional<Lsn> first;
  for_common_blocks(a, b, [&](LsnRange range, bool equal) {
    if (!equal && !first) first = range.begin;
  });
  return first;
}

LogOrder order_of(const node::Evidence& a, const node::Evidence& b) {
  if (const auto epoch = contradiction(a, b))
    return {Better::kNeither,
            fmt::format("{} and {} both hold WAL of epoch {}, but not of the same primary and timeline", a.name, b.name,
                        to_string(*epoch))};
  const auto difference = first_difference(a, b);
  if (!difference) return without_difference(a, b);
  const Epoch of_a = label_at(a, *difference), of_b = label_at(b, *difference);
  if (of_a != of_b) return by_label(of_a, of_b);
  return {Better::kNeither, fmt::format("{} and {} hold different bytes behind {}, both of epoch {}", a.name, b.name,
                                        to_string(*difference), to_string(of_a))};
}

bool better_log(const node::Evidence& a, const node::Evidence& b) { return order_of(b, a).better == Better::kSecond; }

std::vector<LsnRange> missing_ranges(const node::Evidence& evidence, std::span<const LsnRange> wanted) {
  std::vector<LsnRange> out;
  for (const LsnRange& range : wanted) {
    const bool within =
        evidence.log_begin <= range.begin && range.begin < range.end && range.end <= evidence.durable_end;
    const bool one_block = align_down(range.begin, wal::kBlockBytes) + ByteCount{wal::kBlockBytes} >= range.end;
    const bool known = std::ranges::any_of(evidence.blocks, [&](const auto& block) { return block.range == range; }) ||
                       std::ranges::find(out, range) != out.end();
    if (within && one_block && !known) out.push_back(range);
  }
  return out;
}

std::vector<LsnRange> compared_ranges(std::span<const node::Evidence> others) {
  std::vector<LsnRange> out;
  for (const node::Evidence& other : others)
    for (const wal::BlockDigest& block : other.blocks) out.push_back(block.range);
  return out;
}

}  // namespace slipstream::app
