#include "ack/quorum.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace slipstream::ack {
namespace {

// The replicas whose ends decide a term at the moment: for FIRST n the n candidates of highest priority, for ANY all
// that count.
class Chosen {
 public:
  Chosen(const Policy::Term& term, std::span<const ReplicaAcks> replicas) {
    const bool first = term.method == Policy::Method::kFirst;
    for (const NodeId id : term.members) {
      if (first && size_ == term.count) return;
      const auto it = std::ranges::find(replicas, id, &ReplicaAcks::id);
      if (it == replicas.end() || !it->counts || (first && !it->candidate)) continue;
      CHECK(size_ < of_.size());
      of_[size_++] = &*it;
    }
  }

  std::size_t size() const { return size_; }
  const ReplicaAcks* find(NodeId id) const {
    const auto all = std::span(of_).first(size_);
    const auto it = std::ranges::find(all, id, &ReplicaAcks::id);
    return it == all.end() ? nullptr : *it;
  }
  // The n-th largest end; n <= size(). For FIRST n that is the least.
  Lsn largest(std::size_t n, Level level) const {
    std::array<Lsn, kReplicasMax> ends;
    for (std::size_t i = 0; i < size_; ++i) ends[i] = of_[i]->ends[level];
    const auto nth = ends.begin() + static_cast<std::ptrdiff_t>(n - 1);
    std::nth_element(ends.begin(), nth, ends.begin() + static_cast<std::ptrdiff_t>(size_), std::ranges::greater{});
    return *nth;
  }

 private:
  std::array<const ReplicaAcks*, kReplicasMax> of_{};
  std::size_t size_ = 0;
};

bool is_recovery_set_of(const Policy::Term& term, std::span<const NodeId> set) {
  const auto left = std::ranges::count_if(term.members, [&](NodeId id) { return std::ranges::count(set, id) == 0; });
  return static_cast<std::size_t>(left) < term.count;
}

}  // namespace

std::optional<Lsn> committed(const Policy& policy, std::span<const ReplicaAcks> replicas, Level level) {
  std::optional<Lsn> least;
  for (const Policy::Term& term : policy.terms()) {
    const Chosen chosen(term, replicas);
    if (chosen.size() < term.count) return std::nullopt;
    const Lsn end = chosen.largest(term.count, level);
    least = least ? std::min(*least, end) : end;
  }
  return least;
}

std::optional<Lsn> Quorum::held(std::span<const ReplicaAcks> replicas, Level level) const {
  std::optional<Lsn> least;
  const auto meet = [&](const Policy& policy) {
    if (policy.empty()) return true;
    const auto end = committed(policy, replicas, level);
    if (end) least = least ? std::min(*least, *end) : *end;
    return end.has_value();
  };
  return meet(policy_) && std::ranges::all_of(next_, meet) ? least : std::nullopt;
}

bool Quorum::update(std::span<const ReplicaAcks> replicas) {
  bool moved = false;
  for (const Level level : kAllLevels) {
    const auto end = held(replicas, level);
    if (!end || *end <= ends_[level]) continue;
    ends_[level] = *end;
    moved = true;
  }
  return moved;
}

void Quorum::begin_change(Policy next) {
  if (next_.empty() || next_.back() != next) next_.push_back(std::move(next));
}

void Quorum::finish_change() {
  CHECK(changing());
  policy_ = std::move(next_.back());
  next_.clear();
}

std::vector<Waiting> waiting_for(const Policy& policy, std::span<const ReplicaAcks> replicas, Level level,
                                 Lsn position) {
  std::vector<Waiting> out;
  for (std::size_t i = 0; i < policy.terms().size(); ++i) {
    const Policy::Term& term = policy.terms()[i];
    const Chosen chosen(term, replicas);
    // Once FIRST has its n, nobody else can help until one of them stops being a candidate.
    const bool settled = term.method == Policy::Method::kFirst && chosen.size() == term.count;
    Waiting waiting{i, 0, {}};
    std::uint32_t holding = 0;
    for (const NodeId id : term.members) {
      const ReplicaAcks* replica = chosen.find(id);
      if (replica && replica->ends[level] >= position) {
        ++holding;
      } else if (replica || !settled) {
        waiting.of.push_back(id);
      }
    }
    if (holding >= term.count) continue;
    waiting.needed = term.count - holding;
    out.push_back(std::move(waiting));
  }
  return out;
}

bool is_recovery_set(const Policy& policy, std::span<const NodeId> set) {
  return std::ranges::any_of(policy.terms(), [&](const Policy::Term& term) { return is_recovery_set_of(term, set); });
}

std::vector<std::vector<NodeId>> minimal_recovery_sets(const Policy& policy, std::span<const Member> members) {
  CHECK(members.size() <= kReplicasMax);
  std::vector<std::uint32_t> masks(std::size_t{1} << members.size());
  for (std::uint32_t mask = 0; mask < masks.size(); ++mask) masks[mask] = mask;
  std::ranges::sort(masks, {}, [](std::uint32_t mask) { return std::pair(std::popcount(mask), mask); });

  std::vector<std::uint32_t> minimal;
  std::vector<std::vector<NodeId>> out;
  for (const std::uint32_t mask : masks) {
    if (std::ranges::any_of(minimal, [&](std::uint32_t smaller) { return (mask & smaller) == smaller; })) continue;
    std::vector<NodeId> set;
    for (std::size_t i = 0; i < members.size(); ++i)
      if ((mask >> i & 1) != 0) set.push_back(members[i].id);
    if (!is_recovery_set(policy, set)) continue;
    minimal.push_back(mask);
    std::ranges::sort(set);
    out.push_back(std::move(set));
  }
  return out;
}

}  // namespace slipstream::ack
