#include <gtest/gtest.h>

#include "ack/quorum.h"
#include "tests/ack/worlds.h"

namespace slipstream::ack {
namespace {

constexpr std::size_t kReplicas = 4;

std::vector<NodeId> chosen(std::size_t mask) {
  std::vector<NodeId> out;
  for (std::size_t i = 0; i < kReplicas; ++i)
    if ((mask >> i & 1) != 0) out.push_back(NodeId{static_cast<std::uint16_t>(i + 1)});
  return out;
}

// Every set of holders that some acknowledgement pattern (who holds the position, whom FIRST may choose) makes a
// commit.
std::vector<std::size_t> committing_holders(const Policy& policy) {
  std::vector<std::size_t> out;
  for (std::size_t holders = 0; holders < 1u << kReplicas; ++holders) {
    bool commits = false;
    for (std::size_t candidates = 0; candidates < 1u << kReplicas && !commits; ++candidates) {
      std::vector<ReplicaAcks> acks;
      for (std::size_t i = 0; i < kReplicas; ++i) {
        ReplicaAcks replica{NodeId{static_cast<std::uint16_t>(i + 1)}, {}, true, (candidates >> i & 1) != 0};
        replica.ends[Level::kDurable] = Lsn{holders >> i & 1};
        acks.push_back(replica);
      }
      commits = committed(policy, acks, Level::kDurable) == Lsn{1};
    }
    if (commits) out.push_back(holders);
  }
  return out;
}

TEST(RecoverySets, AreThoseThatMeetTheHoldersOfEveryPossibleCommit) {
  auto policies = worlds::all_single_terms(kReplicas);
  const auto joined = worlds::pairs(policies, 61);
  policies.insert(policies.end(), joined.begin(), joined.end());
  for (const auto& plain : policies) {
    const auto policy = Policy::parse(plain.text, worlds::members(kReplicas));
    ASSERT_TRUE(policy.has_value()) << plain.text;
    const auto commits = committing_holders(*policy);
    ASSERT_FALSE(commits.empty()) << plain.text;
    std::vector<std::size_t> sets;
    for (std::size_t set = 0; set < 1u << kReplicas; ++set) {
      const bool wanted = std::ranges::all_of(commits, [&](std::size_t holders) { return (holders & set) != 0; });
      ASSERT_EQ(is_recovery_set(*policy, chosen(set)), wanted) << plain.text << ", set " << set;
      if (wanted) sets.push_back(set);
    }
    std::vector<std::vector<NodeId>> minimal;
    for (const std::size_t set : sets)
      if (std::ranges::none_of(sets, [&](std::size_t other) { return other != set && (other & set) == other; }))
        minimal.push_back(chosen(set));
    auto got = minimal_recovery_sets(*policy, worlds::members(kReplicas));
    std::ranges::sort(minimal);
    std::ranges::sort(got);
    ASSERT_EQ(got, minimal) << plain.text;
  }
}

std::string sets_of(std::string_view text) {
  const auto policy = Policy::parse(text, worlds::members(3));
  EXPECT_TRUE(policy.has_value()) << text;
  std::string out;
  for (const auto& set : minimal_recovery_sets(policy.value_or(Policy{}), worlds::members(3))) {
    out += out.empty() ? "" : " or ";
    for (const NodeId id : set) out += static_cast<char>('a' + id.value - 1);
  }
  return out;
}

TEST(RecoverySets, OfKnownPolicies) {
  EXPECT_EQ(sets_of("ANY 2 (a, b, c)"), "ab or ac or bc");
  EXPECT_EQ(sets_of("ANY 1 (a, b)"), "ab");
  EXPECT_EQ(sets_of("FIRST 1 (a, b)"), "ab");
  EXPECT_EQ(sets_of("ANY 3 (a, b, c)"), "a or b or c");
  EXPECT_EQ(sets_of("a AND ANY 1 (b, c)"), "a or bc");
  EXPECT_EQ(sets_of("*"), "abc");
}

TEST(RecoverySets, OfTheEmptyPolicyDoNotExist) {
  EXPECT_EQ(sets_of(""), "");
  EXPECT_FALSE(is_recovery_set(Policy{}, chosen(15)));
}

}  // namespace
}  // namespace slipstream::ack
