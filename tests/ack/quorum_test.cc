#include "ack/quorum.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "tests/ack/worlds.h"

namespace slipstream::ack {
namespace {

using worlds::PlainPolicy;
using worlds::PlainTerm;

constexpr std::size_t kReplicas = 3;
constexpr std::uint64_t kPositions = 4;

Policy parse(std::string_view text, std::size_t replicas = kReplicas) {
  const auto policy = Policy::parse(text, worlds::members(replicas));
  EXPECT_TRUE(policy.has_value()) << text << ": " << (policy ? "" : policy.error().message());
  return policy.value_or(Policy{});
}

enum class Standing { kUnheardOf, kDoesNotCount, kCounts, kCandidate };

struct World {
  std::vector<std::uint64_t> ends;
  std::vector<Standing> standing;

  // Only the level that is asked for tells the truth.
  std::vector<ReplicaAcks> acks(Level asked) const {
    std::vector<ReplicaAcks> out;
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (standing[i] == Standing::kUnheardOf) continue;
      ReplicaAcks replica;
      replica.id = NodeId{static_cast<std::uint16_t>(i + 1)};
      for (const Level level : kAllLevels)
        replica.ends[level] = Lsn{level == asked ? ends[i] : kPositions - ends[i] + 7};
      replica.counts = standing[i] == Standing::kCounts || standing[i] == Standing::kCandidate;
      replica.candidate = standing[i] == Standing::kCandidate;
      out.push_back(replica);
    }
    return out;
  }
};

std::vector<World> all_worlds() {
  std::vector<World> out;
  for (std::size_t code = 0; code < 16 * 16 * 16; ++code) {
    World world;
    for (std::size_t i = 0, rest = code; i < kReplicas; ++i, rest /= 16) {
      world.ends.push_back(rest % kPositions);
      world.standing.push_back(static_cast<Standing>(rest / kPositions % 4));
    }
    out.push_back(world);
  }
  return out;
}

// Is `position` held? Asked of one position at a time, with none of the production code's ordering of ends.
bool term_holds(const PlainTerm& term, const World& world, std::uint64_t position) {
  std::size_t asked = 0;
  std::size_t holding = 0;
  for (const std::size_t i : term.list) {
    if (term.any) {
      const bool counts = world.standing[i] == Standing::kCounts || world.standing[i] == Standing::kCandidate;
      if (counts && world.ends[i] >= position) ++holding;
    } else if (world.standing[i] == Standing::kCandidate && asked < term.count) {
      ++asked;
      if (world.ends[i] >= position) ++holding;
    }
  }
  return holding >= term.count;
}

std::optional<Lsn> naive_committed(const PlainPolicy& policy, const World& world) {
  for (std::uint64_t position = kPositions; position-- > 0;) {
    const auto holds = [&](const PlainTerm& term) { return term_holds(term, world, position); };
    if (std::ranges::all_of(policy.terms, holds)) return Lsn{position};
  }
  return std::nullopt;
}

std::string shown(std::optional<Lsn> end) { return end ? to_string(*end) : "nothing"; }

void compare_everywhere(const std::vector<PlainPolicy>& policies) {
  const std::vector<World> everywhere = all_worlds();
  std::array<std::vector<std::vector<ReplicaAcks>>, kLevels> acks;
  for (const Level level : kAllLevels)
    for (const World& world : everywhere) acks[static_cast<std::size_t>(level)].push_back(world.acks(level));
  for (std::size_t p = 0; p < policies.size(); ++p) {
    const Policy policy = parse(policies[p].text);
    const Level level = kAllLevels[p % kLevels];
    for (std::size_t w = 0; w < everywhere.size(); ++w) {
      const World& world = everywhere[w];
      const auto wanted = naive_committed(policies[p], world);
      const auto got = committed(policy, acks[p % kLevels][w], level);
      ASSERT_EQ(got, wanted) << policies[p].text << ": " << shown(got) << " instead of " << shown(wanted)
                             << " with ends " << world.ends[0] << world.ends[1] << world.ends[2] << ", standing "
                             << static_cast<int>(world.standing[0]) << static_cast<int>(world.standing[1])
                             << static_cast<int>(world.standing[2]);
    }
  }
}

TEST(Committed, OfEverySingleTermEqualsTheNaiveDefinitionInEveryWorldOfThreeReplicas) {
  const auto policies = worlds::all_single_terms(kReplicas);
  ASSERT_EQ(policies.size(), 66u);
  compare_everywhere(policies);
}

TEST(Committed, OfTermsJoinedByAndEqualsTheNaiveDefinitionInEveryWorldOfThreeReplicas) {
  compare_everywhere(worlds::pairs(worlds::all_single_terms(kReplicas), 5));
}

ReplicaAcks replica(std::uint16_t id, std::uint64_t durable, bool candidate = true) {
  ReplicaAcks out{NodeId{id}, {}, true, candidate};
  out.ends[Level::kDurable] = Lsn{durable};
  return out;
}

TEST(Committed, OfTheEmptyPolicyIsNothing) {
  EXPECT_EQ(committed(parse(""), std::vector{replica(1, 5)}, Level::kDurable), std::nullopt);
}

TEST(Committed, IgnoresReplicasThatThePolicyDoesNotName) {
  EXPECT_EQ(committed(parse("ANY 1 (a, b)"), std::vector{replica(1, 5), replica(2, 3), replica(3, 9)}, Level::kDurable),
            Lsn{5});
  EXPECT_EQ(committed(parse("ANY 1 (a, b)"), std::vector{replica(3, 9)}, Level::kDurable), std::nullopt);
}

TEST(Committed, OfFirstWaitsForTheHigherPriorityEvenIfTheLowerIsAhead) {
  EXPECT_EQ(committed(parse("a, b"), std::vector{replica(1, 3), replica(2, 9)}, Level::kDurable), Lsn{3});
  EXPECT_EQ(committed(parse("a, b"), std::vector{replica(1, 3, false), replica(2, 9)}, Level::kDurable), Lsn{9});
}

TEST(Quorum, DoesNotRegressWhenAReplicaOfHigherPriorityComesBackBehind) {
  Quorum quorum(parse("a, b"));
  EXPECT_TRUE(quorum.update(std::vector{replica(1, 3, false), replica(2, 9)}));
  EXPECT_FALSE(quorum.update(std::vector{replica(1, 4), replica(2, 9)}));
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{9});
  EXPECT_TRUE(quorum.update(std::vector{replica(1, 11), replica(2, 9)}));
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{11});
}

TEST(Quorum, DuringAChangeMovesOnlyToWhatBothPoliciesHold) {
  Quorum quorum(parse("a"));
  quorum.begin_change(parse("b"));
  ASSERT_TRUE(quorum.changing());
  quorum.update(std::vector{replica(1, 9), replica(2, 4)});
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{4});
  quorum.update(std::vector{replica(1, 9)});
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{4});
  quorum.finish_change();
  ASSERT_FALSE(quorum.changing());
  quorum.update(std::vector{replica(1, 1), replica(2, 12)});
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{12});
  EXPECT_EQ(quorum.policy().text(), "b");
}

TEST(Quorum, OnTheWayToOrFromTheEmptyPolicyObeysTheOther) {
  Quorum to_empty(parse("a"));
  to_empty.begin_change(parse(""));
  EXPECT_FALSE(to_empty.update(std::vector{replica(2, 9)}));
  EXPECT_TRUE(to_empty.update(std::vector{replica(1, 5)}));
  Quorum from_empty(parse(""));
  from_empty.begin_change(parse("a"));
  EXPECT_FALSE(from_empty.update(std::vector{replica(2, 9)}));
  EXPECT_TRUE(from_empty.update(std::vector{replica(1, 5)}));
}

TEST(Quorum, ObeysAChangeThatALaterOneOvertook) {
  Quorum quorum(parse("a"));
  quorum.begin_change(parse("b"));
  quorum.begin_change(parse("c"));
  quorum.update(std::vector{replica(1, 9), replica(3, 9)});
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{0}) << "b may be what a replica's state file says";
  quorum.finish_change();
  EXPECT_EQ(quorum.policy().text(), "c");
  EXPECT_TRUE(quorum.update(std::vector{replica(3, 9)}));
}

TEST(Quorum, ForgetsWhatWasCommittedBeyondTheEndOfTheLogAndNothingElse) {
  Quorum quorum(parse("a"));
  ReplicaAcks held{NodeId{1}, {}, true, true};
  held.ends[Level::kReceived] = Lsn{9}, held.ends[Level::kDurable] = Lsn{7}, held.ends[Level::kApplied] = Lsn{4};
  quorum.update(std::vector{held});
  quorum.forget_beyond(Lsn{6});
  EXPECT_EQ(quorum.committed_ends()[Level::kReceived], Lsn{6});
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{6});
  EXPECT_EQ(quorum.committed_ends()[Level::kApplied], Lsn{4});
  held.ends[Level::kReceived] = held.ends[Level::kDurable] = Lsn{5};
  EXPECT_FALSE(quorum.update(std::vector{held}));
  held.ends[Level::kDurable] = Lsn{7};
  EXPECT_TRUE(quorum.update(std::vector{held}));
  EXPECT_EQ(quorum.committed_ends()[Level::kDurable], Lsn{7});
}

// 200 random lives of a quorum against a twin that keeps every policy of a change in a list and recomputes from the
// definition.
TEST(Quorum, EqualsItsTwinOverRandomLives) {
  const auto policies = worlds::all_single_terms(kReplicas);
  const auto everywhere = all_worlds();
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const auto any_policy = [&] { return policies[random() % policies.size()]; };
    std::vector<PlainPolicy> obeyed{any_policy()};
    Quorum quorum(parse(obeyed[0].text));
    std::optional<Lsn> best;
    for (int turn = 0; turn < 100; ++turn) {
      if (random() % 8 == 0) {
        obeyed.push_back(any_policy());
        quorum.begin_change(parse(obeyed.back().text));
      } else if (obeyed.size() > 1 && random() % 4 == 0) {
        obeyed.erase(obeyed.begin(), obeyed.end() - 1);
        quorum.finish_change();
      }
      World world = everywhere[random() % everywhere.size()];
      std::optional<Lsn> all_hold = Lsn{kPositions};
      for (const PlainPolicy& policy : obeyed) all_hold = std::min(all_hold, naive_committed(policy, world));
      const bool moves = all_hold.value_or(Lsn{0}) > best.value_or(Lsn{0});
      if (moves) best = all_hold;
      std::vector<ReplicaAcks> acks = world.acks(Level::kDurable);
      for (ReplicaAcks& replica : acks) replica.ends[Level::kReceived] = replica.ends[Level::kApplied] = Lsn{0};
      ASSERT_EQ(quorum.update(acks), moves) << "seed " << seed << ", turn " << turn;
      ASSERT_EQ(quorum.committed_ends()[Level::kDurable], best.value_or(Lsn{0}))
          << "seed " << seed << ", turn " << turn;
    }
  }
}

TEST(WaitingFor, NamesSomeoneExactlyWhileThePolicyDoesNotHoldThePositionAndTheirAcksWouldDo) {
  auto policies = worlds::all_single_terms(kReplicas);
  const auto joined = worlds::pairs(policies, 97);
  policies.insert(policies.end(), joined.begin(), joined.end());
  const auto everywhere = all_worlds();
  for (const PlainPolicy& plain : policies) {
    const Policy policy = parse(plain.text);
    for (const World& world : everywhere) {
      const auto acks = world.acks(Level::kDurable);
      const auto end = naive_committed(plain, world);
      for (std::uint64_t position = 0; position < kPositions; ++position) {
        const auto waiting = waiting_for(policy, acks, Level::kDurable, Lsn{position});
        ASSERT_EQ(waiting.empty(), end && *end >= Lsn{position}) << plain.text << " at " << position;
        World helped = world;
        for (const Waiting& term : waiting) {
          ASSERT_GT(term.needed, 0u);
          ASSERT_LE(term.needed, term.of.size());
          for (const NodeId id : term.of) {
            helped.standing[id.value - 1u] = Standing::kCandidate;
            helped.ends[id.value - 1u] = kPositions - 1;
          }
        }
        ASSERT_TRUE(waiting_for(policy, helped.acks(Level::kDurable), Level::kDurable, Lsn{position}).empty())
            << plain.text;
      }
    }
  }
}

TEST(WaitingFor, OfFirstNamesTheChosenThatLagAndNotThoseWhoCannotHelp) {
  const auto waiting = waiting_for(parse("FIRST 2 (a, b, c)"), std::vector{replica(1, 3), replica(2, 9), replica(3, 1)},
                                   Level::kDurable, Lsn{9});
  ASSERT_EQ(waiting.size(), 1u);
  EXPECT_EQ(waiting[0].needed, 1u);
  EXPECT_EQ(waiting[0].of, std::vector{NodeId{1}});
}

TEST(WaitingFor, SaysWhichTermsAreUnmet) {
  const auto waiting = waiting_for(parse("ANY 1 (a, b) AND ANY 2 (b, c)"), std::vector{replica(1, 9), replica(2, 9)},
                                   Level::kDurable, Lsn{9});
  ASSERT_EQ(waiting.size(), 1u);
  EXPECT_EQ(waiting[0].term, 1u);
  EXPECT_EQ(waiting[0].needed, 1u);
  EXPECT_EQ(waiting[0].of, std::vector{NodeId{3}});
}

}  // namespace
}  // namespace slipstream::ack
