#include "app/promotion.h"
#include "app/log_order.h"

#include <gtest/gtest.h>

#include "node/policy_book.h"

namespace slipstream::app {
namespace {

node::Evidence member(const std::string& name, std::uint16_t number, std::uint64_t durable, const std::string& policy) {
  node::Evidence e;
  e.name = name;
  e.id = NodeId{number};
  e.log_id = LogId{{1, number}};
  e.system = SystemId{7};
  e.timeline = TimelineId{1};
  e.promise = {{2, 0}, {}, "a"};
  e.held_epoch = {1, 3};
  e.durable_end = e.counted_end = Lsn{durable};
  e.standby_ready = true;
  e.epoch_map = {{{1, 3}, Lsn{0}, TimelineId{1}, Identity{{5, 5}}}};
  e.policy = {1, policy, {{"a", NodeId{2}, LogId{{1, 2}}}, {"b", NodeId{3}, LogId{{1, 3}}}}};
  return e;
}

std::string refusal(const node::Evidence& own, const std::vector<node::Evidence>& others,
                    PromotionOptions options = {}) {
  const auto plan = plan_promotion(own, others, options);
  return plan ? "promoted" : plan.error().message();
}

TEST(Promotion, OfAnyOneNeedsBoth) {
  const auto a = member("a", 2, 100, "ANY 1 (a, b)"), b = member("b", 3, 90, "ANY 1 (a, b)");
  EXPECT_NE(refusal(a, {}).find("no recovery set"), std::string::npos);
  EXPECT_NE(refusal(a, {}, {.sole_survivor = true}).find("(a, b)"), std::string::npos);
  EXPECT_EQ(refusal(a, {b}), "promoted");
}

TEST(Promotion, OfAnyTwoNeedsOneThatIsTheSoleSurvivor) {
  const auto a = member("a", 2, 100, "ANY 2 (a, b)");
  EXPECT_NE(refusal(a, {}).find("--sole-survivor"), std::string::npos);
  EXPECT_EQ(refusal(a, {}, {.sole_survivor = true}), "promoted");
}

// Lives of a primary whose state directory was put back from a copy: either may have had commits acknowledged.
TEST(Promotion, NeedsARecoverySetOfEachContentOfTheLatestVersion) {
  const auto a = member("a", 2, 100, "ANY 1 (a, b)");
  auto b = member("b", 3, 90, "ANY 2 (a, b)");
  EXPECT_EQ(refusal(a, {b}), "promoted");
  b.policy.members[0].log_id = LogId{{9, 9}};  // a as b was told of it is gone: by ANY 2 its log is not needed.
  EXPECT_NE(refusal(a, {b}).find("1 of 2 members are here"), std::string::npos) << refusal(a, {b});
  const PromotionOptions survivor{.sole_survivor = true};
  const auto plan = plan_promotion(a, std::vector{b}, survivor);
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->missing, std::vector<std::string>{"a"});
  EXPECT_EQ(plan->unfenced, (std::vector<node::MemberRecord>{{"a", NodeId{2}, LogId{{9, 9}}}}));
  b.policy.text = "ANY 1 (a, b)";
  const std::string why = refusal(a, {b}, survivor);
  EXPECT_NE(why.find("only b is here, and a with another directory (log id"), std::string::npos) << why;
  EXPECT_NE(why.find("members were told 2 different policies"), std::string::npos) << why;
  const auto lossy = plan_promotion(a, std::vector{b}, {.sole_survivor = true, .accept_loss = true});
  ASSERT_TRUE(lossy) << lossy.error().message();
  EXPECT_NE(lossy->may_be_missing.find("another directory"), std::string::npos) << lossy->may_be_missing;
  b.policy.version = 2, b.policy.members = a.policy.members;
  EXPECT_EQ(refusal(a, {b}), "promoted");
}

// b holds more than all who know the version: in the epoch that this was given out in it would be one of them.
TEST(Promotion, AsksAnEarlierVersionTooWhoseHolderCannotBeOfTheSameLife) {
  auto a = member("a", 2, 90, "ANY 1 (a, b)"), b = member("b", 3, 100, "ANY 1 (c)");
  b.policy.members = {{"c", NodeId{4}, LogId{{1, 4}}}};
  a.policy.version = node::next_policy_version(0, {1, 7});
  b.policy.version = node::next_policy_version(0, {1, 6});
  b.not_held = {{Lsn{0x80}, node::kOpenEnd}};
  a.held_epoch = {1, 7};
  b.held_epoch = {1, 6};
  a.final_end = b.final_end = Lsn{90};
  a.promise.candidate = b.promise.candidate = "b";
  EXPECT_NE(refusal(b, {a}).find("no recovery set"), std::string::npos) << refusal(b, {a});
  b.policy.text = a.policy.text, b.policy.members = a.policy.members;
  const auto marked = plan_promotion(b, std::vector{a}, {});
  ASSERT_TRUE(marked) << marked.error().message();
  EXPECT_EQ(marked->not_held.size(), 1u);
  // Of the same life it holds no more, or is of the same epoch and was not told yet.
  b.policy.text = "ANY 1 (c)", b.policy.members = {{"c", NodeId{4}, LogId{{1, 4}}}};
  b.held_epoch = {1, 7};
  EXPECT_EQ(refusal(b, {a}), "promoted");
  b.held_epoch = {1, 6};
  a.durable_end = a.counted_end = Lsn{100};
  a.promise.candidate = b.promise.candidate = "a";
  EXPECT_EQ(refusal(a, {b}), "promoted");
}

TEST(Promotion, OfTheShorterLogIsRefusedAndNamesTheBetter) {
  const auto a = member("a", 2, 100, "ANY 1 (a, b)"), b = member("b", 3, 101, "ANY 1 (a, b)");
  EXPECT_NE(refusal(a, {b}).find("promote b instead"), std::string::npos);
}

TEST(Promotion, NamesTheBestOfSeveralAndHowToAdoptItsLog) {
  const std::string policy = "ANY 1 (a, b)";
  const auto a = member("a", 2, 100, policy), b = member("b", 3, 101, policy);
  auto c = member("c", 4, 102, policy);
  EXPECT_NE(refusal(a, {b, c}).find(
                "promote c instead; or stop the daemon of a, adopt the log of c there (slipstream adopt-log"),
            std::string::npos)
      << refusal(a, {b, c});
  c.log_only = true;
  EXPECT_EQ(refusal(a, {b, c}).find("promote c"), std::string::npos);
  EXPECT_NE(refusal(a, {b, c}).find("c has no standby: stop the daemon of a, adopt the log of c"), std::string::npos);
}

TEST(Promotion, OfAMemberWithoutAStandbyIsRefusedAndNamesTheWayAround) {
  auto a = member("a", 2, 100, "ANY 1 (a, b)");
  const auto b = member("b", 3, 90, "ANY 1 (a, b)");
  a.log_only = true;
  EXPECT_NE(refusal(a, {b}).find("slipstream adopt-log"), std::string::npos);
}

TEST(Promotion, KnowsWhichMembersAreNotFenced) {
  const auto plan = plan_promotion(member("a", 2, 100, "ANY 2 (a, b)"), {}, {.sole_survivor = true});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->unfenced, (std::vector<node::MemberRecord>{{"b", NodeId{3}, LogId{{1, 3}}}}));
  EXPECT_EQ(*parse_members(members_json(plan->unfenced)), plan->unfenced);
  EXPECT_FALSE(parse_members(Json::parse(R"([{"name": 1}])")));
}

TEST(Promotion, PrefersTheLaterLabelWhereLogsDiffer) {
  auto a = member("a", 2, 100, "ANY 1 (a, b)"), b = member("b", 3, 200, "ANY 1 (a, b)");
  a.blocks = {{{Lsn{0}, Lsn{64}}, {1, 1}}};
  b.blocks = {{{Lsn{0}, Lsn{64}}, {2, 2}}};
  b.held_epoch = {1, 2};
  b.epoch_map[0].epoch = {1, 2};
  EXPECT_TRUE(better_log(a, b));
  EXPECT_FALSE(better_log(b, a));
}

TEST(Promotion, WithoutARecoverySetNeedsTheOperatorsWordAndSaysWhatMayBeMissing) {
  const auto a = member("a", 2, 100, "ANY 1 (a, b)");
  const auto plan = plan_promotion(a, {}, {.sole_survivor = true, .accept_loss = true});
  ASSERT_TRUE(plan);
  EXPECT_NE(plan->may_be_missing.find("0/64"), std::string::npos);
}

TEST(Promotion, RefusesEvidenceFencedForAnother) {
  auto b = member("b", 3, 90, "ANY 1 (a, b)");
  b.promise.candidate = "c";
  EXPECT_NE(refusal(member("a", 2, 100, "ANY 1 (a, b)"), {b}).find("promised term 2 to c"), std::string::npos);
}

TEST(Promotion, DoesNotCountADirectoryMadeAnewAsAMember) {
  auto b = member("b", 3, 90, "ANY 1 (a, b)");
  b.log_id = LogId{{9, 9}};
  EXPECT_NE(refusal(member("a", 2, 100, "ANY 1 (a, b)"), {b}).find("no recovery set"), std::string::npos);
}

TEST(Promotion, RefusesAnotherCluster) {
  auto b = member("b", 3, 90, "ANY 1 (a, b)");
  b.system = SystemId{8};
  EXPECT_NE(refusal(member("a", 2, 100, "ANY 1 (a, b)"), {b}).find("another cluster"), std::string::npos);
}

TEST(Promotion, NamesCommitsThatPostgresqlLetReturnWithoutReplicas) {
  auto a = member("a", 2, 0x100, "ANY 1 (a, b)"), b = member("b", 3, 0x90, "ANY 1 (a, b)");
  a.not_held = b.not_held = {{Lsn{0x80}, Lsn{0xf0}}, {Lsn{0xf8}, node::kOpenEnd}};
  const auto plan = plan_promotion(a, std::vector{b}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->not_held, (node::Marks{{Lsn{0xf8}, node::kOpenEnd}})) << "the first is held";
  EXPECT_NE(
      plan->may_be_missing.find(
          "commits from 0/100 on may be missing, since synchronous_standby_names did not always contain slipstream"),
      std::string::npos)
      << plan->may_be_missing;
  a.not_held = b.not_held = {{Lsn{0x200}, Lsn{0x300}}};
  EXPECT_NE(
      plan_promotion(a, std::vector{b}, {})->may_be_missing.find("commits between 0/200 and 0/300 may be missing"),
      std::string::npos);
  a.not_held = b.not_held = {{Lsn{}, Lsn{0x100}}};
  EXPECT_TRUE(plan_promotion(a, std::vector{b}, {})->may_be_missing.empty());
}

TEST(Promotion, BelievesTheMarksOfWhoKnowsTheLatestPolicy) {
  auto a = member("a", 2, 0x100, "ANY 1 (a, b)"), b = member("b", 3, 0x90, "ANY 1 (a, b)");
  a.not_held = {{Lsn{0x80}, node::kOpenEnd}};
  b.policy.version = 2, b.not_held = {{Lsn{0x80}, Lsn{0xf0}}};
  EXPECT_TRUE(plan_promotion(a, std::vector{b}, {})->not_held.empty());
  a.not_held.swap(b.not_held);
  EXPECT_EQ(plan_promotion(a, std::vector{b}, {})->not_held, (node::Marks{{Lsn{0x80}, node::kOpenEnd}}));
}

TEST(Evidence, SurvivesItsJson) {
  auto a = member("a", 2, 0x1600000010, "ANY 1 (a, b)");
  a.blocks = {{{Lsn{0}, Lsn{65536}}, {3, 4}}};
  a.not_held = {{Lsn{1}, Lsn{2}}, {Lsn{3}, node::kOpenEnd}};
  const auto again = parse_evidence(evidence_json(a), "a.evidence");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(evidence_json(*again), evidence_json(a));
  EXPECT_EQ(again->not_held, a.not_held);
}

TEST(Evidence, RefusesWhatIsNone) {
  EXPECT_FALSE(parse_evidence(Json::parse("[1]"), "x"));
  Json damaged = evidence_json(member("a", 2, 1, ""));
  damaged["durable_end"] = "zz";
  const auto parsed = parse_evidence(damaged, "x");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().where, "x");
}

TEST(Evidence, RefusesNumbersThatAreNoCountsOrDoNotFit) {
  const Json good = evidence_json(member("a", 2, 1, "ANY 1 (a)"));
  ASSERT_TRUE(parse_evidence(good, "x"));
  for (const Json& number : {Json(-1), Json(1.5), Json(7.7e137), Json(4'294'967'297u), Json("1"), Json(true), Json()})
    for (const char* key : {"number", "timeline", "promised_term", "promised_incarnation", "held_term"}) {
      Json damaged = good;
      damaged[key] = number;
      EXPECT_FALSE(parse_evidence(damaged, "x")) << key << " " << number;
    }
  for (const char* system : {"", "-5", "77x", "99999999999999999999"}) {
    Json damaged = good;
    damaged["system"] = system;
    EXPECT_FALSE(parse_evidence(damaged, "x")) << system;
  }
  Json damaged = good;
  damaged["policy"]["members"][0]["number"] = 65'537;
  EXPECT_FALSE(parse_evidence(damaged, "x"));
}

}  // namespace
}  // namespace slipstream::app
