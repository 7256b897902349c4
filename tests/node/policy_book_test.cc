#include "node/policy_book.h"

#include <gtest/gtest.h>

namespace slipstream::node {
namespace {

const std::vector<ack::Member> kReplicas{{NodeId{2}, "b1"}, {NodeId{3}, "b2"}};
constexpr LogId kLog{{7, 7}};
const std::uint64_t kFirst = next_policy_version(0, {1, 1});

State after(const std::string& text, std::uint64_t version) {
  State state;
  state.policy = {kFirst + version, text, {{"b1", NodeId{2}, kLog}, {"b2", NodeId{3}, {}}}};
  return state;
}

void persist(StateKeeper& keeper) {
  ASSERT_TRUE(keeper.next(Instant{1}));
  keeper.on_done(DiskStatus::kOk, Instant{1});
}

TEST(PolicyBook, GivesTheFirstPolicyAVersionOfItsFirstEpoch) {
  StateKeeper keeper(State{}, 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b1, b2)");
  EXPECT_EQ(book.told().version, kFirst);
  EXPECT_FALSE(book.next());
  EXPECT_EQ(book.told().members.size(), 2u);
}

// The state may be an older copy of itself, and the version have another content by now.
TEST(PolicyBook, GivesAPolicyThatDidNotChangeANewVersion) {
  State state = after("ANY 1 (b1, b2)", 5);
  for (const std::uint32_t opened : {1u, 3u}) {
    state.own_epoch = {1, opened};
    StateKeeper keeper(state, 1);
    PolicyBook book(keeper, kReplicas, "any 1 (B1,b2)");
    EXPECT_EQ(book.told().version, next_policy_version(kFirst + 5, {1, opened + 1}));
    EXPECT_EQ(book.told().text, "ANY 1 (b1, b2)");
    EXPECT_EQ(book.told().members, state.policy.members);
    EXPECT_FALSE(book.next());
  }
}

TEST(PolicyBook, TellsAMembersLogOnlyOnceItIsDurable) {
  StateKeeper keeper(State{}, 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b1, b2)");
  ASSERT_TRUE(keeper.next(Instant{1}));  // An earlier state is being written.
  book.admit(kReplicas[0], kLog);
  keeper.on_done(DiskStatus::kOk, Instant{1});
  EXPECT_FALSE(book.on_persisted());
  EXPECT_EQ(book.told().version, kFirst);
  persist(keeper);
  EXPECT_TRUE(book.on_persisted());
  EXPECT_EQ(book.told().version, kFirst + 1);
  EXPECT_EQ(book.told().members[0].log_id, kLog);
  EXPECT_FALSE(book.on_persisted());
}

TEST(PolicyBook, OutbidsAVersionThatItDidNotGiveOut) {
  StateKeeper keeper(State{}, 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b1, b2)");
  book.outbid(kFirst + 9);
  persist(keeper);
  ASSERT_TRUE(book.on_persisted());
  EXPECT_EQ(book.told().version, kFirst + 10);
}

TEST(PolicyBook, FinishesAChangeOnlyWithReplicasThatSatisfyBoth) {
  StateKeeper keeper(after("ANY 1 (b1)", 5), 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b2)");
  persist(keeper);
  ASSERT_TRUE(book.next());
  EXPECT_EQ(book.told().version, kFirst + 6);
  std::vector<ack::ReplicaAcks> acks{{NodeId{2}, {}, true, true}, {NodeId{3}, {}, false, false}};
  EXPECT_FALSE(book.finish_if_met(acks));
  acks[1].counts = acks[1].candidate = true;
  acks[0].counts = acks[0].candidate = false;
  EXPECT_FALSE(book.finish_if_met(acks));
  acks[0].counts = acks[0].candidate = true;
  EXPECT_TRUE(book.finish_if_met(acks));
  EXPECT_FALSE(book.next());
  EXPECT_EQ(keeper.state().policy.text, "ANY 1 (b2)");
  EXPECT_EQ(keeper.state().policy.version, kFirst + 6);
}

TEST(PolicyBook, GoesOnWithAChangeThatARestartInterrupted) {
  State state = after("ANY 1 (b1)", 5);
  state.pending_policy = PolicyRecord{kFirst + 6, "ANY 1 (b2)", state.policy.members};
  StateKeeper keeper(state, 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b2)");
  ASSERT_TRUE(book.next());
  EXPECT_EQ(book.told(), (PolicyRecord{kFirst + 7, "ANY 1 (b2)", state.policy.members}));
}

TEST(PolicyBook, HoldsAllThreeWhenAnUnfinishedChangeIsFollowedByAnother) {
  State state = after("ANY 1 (b1)", 5);
  state.pending_policy = PolicyRecord{kFirst + 6, "ANY 1 (b2)", state.policy.members};
  StateKeeper keeper(state, 1);
  PolicyBook book(keeper, kReplicas, "ANY 1 (b1)");
  EXPECT_EQ(keeper.state().policy.text, "ANY 1 (\"b1\") AND ANY 1 (\"b2\")");
  EXPECT_EQ(book.in_force().terms().size(), 2u);
  EXPECT_EQ(book.told().version, kFirst + 7);
  EXPECT_EQ(book.told().text, "ANY 1 (b1)");
}

}  // namespace
}  // namespace slipstream::node
