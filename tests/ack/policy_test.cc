#include "ack/policy.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/ack/worlds.h"

namespace slipstream::ack {
namespace {

const std::vector<Member> kMembers{{NodeId{1}, "berlin"}, {NodeId{2}, "Oslo"},   {NodeId{3}, "first"},
                                   {NodeId{4}, "2"},      {NodeId{5}, "a\"b c"}, {NodeId{6}, "zürich"}};

// "ANY 2 [1 2 3]" for each term, joined by " & "; "error at column: what (remedy)" otherwise.
std::string read(std::string_view text, const std::vector<Member>& members = kMembers) {
  const auto policy = Policy::parse(text, members);
  if (!policy) return policy.error().message();
  EXPECT_EQ(policy->text(), text);
  std::string out;
  for (const Policy::Term& term : policy->terms()) {
    std::string list;
    for (const NodeId id : term.members) list += (list.empty() ? "" : " ") + std::to_string(id.value);
    out += (out.empty() ? "" : " & ") + std::string(term.method == Policy::Method::kAny ? "ANY " : "FIRST ") +
           std::to_string(term.count) + (term.wildcard ? " *[" : " [") + list + "]";
  }
  return out;
}

void expect_begins(const std::string& text, const std::string& wanted) {
  EXPECT_EQ(text.substr(0, wanted.size()), wanted);
}

TEST(Policy, ReadsEveryFormOfPostgresGrammar) {
  EXPECT_EQ(read("berlin"), "FIRST 1 [1]");
  EXPECT_EQ(read("oslo, berlin"), "FIRST 1 [2 1]");
  EXPECT_EQ(read("2 (berlin, oslo)"), "FIRST 2 [1 2]");
  EXPECT_EQ(read("FIRST 2 (berlin, oslo, zürich)"), "FIRST 2 [1 2 6]");
  EXPECT_EQ(read("aNy 1(berlin,oslo)"), "ANY 1 [1 2]");
  EXPECT_EQ(read(" \t\nfirst\f1\r(\vberlin ) "), "FIRST 1 [1]");
}

TEST(Policy, ReadsTermsJoinedByAnd) {
  EXPECT_EQ(read("ANY 1 (berlin, oslo) AND zürich"), "ANY 1 [1 2] & FIRST 1 [6]");
  EXPECT_EQ(read("berlin and oslo, berlin And 1 (*)"), "FIRST 1 [1] & FIRST 1 [2 1] & FIRST 1 *[1 2 3 4 5 6]");
}

TEST(Policy, TheEmptyTextIsTheEmptyPolicy) {
  for (const char* text : {"", "  \n"}) {
    const auto policy = Policy::parse(text, kMembers);
    ASSERT_TRUE(policy.has_value());
    EXPECT_TRUE(policy->empty());
  }
}

TEST(Policy, AStarStandsForEveryMemberNotNamedBeforeIt) {
  EXPECT_EQ(read("*"), "FIRST 1 *[1 2 3 4 5 6]");
  EXPECT_EQ(read("ANY 2 (zürich, *)"), "ANY 2 *[6 1 2 3 4 5]");
  EXPECT_EQ(read("\"*\""), "FIRST 1 *[1 2 3 4 5 6]") << "PostgreSQL's scanner makes no difference";
}

TEST(Policy, KeywordsAndNumbersAreNamesWhenQuotedOrWithoutAList) {
  EXPECT_EQ(read("\"first\""), "FIRST 1 [3]");
  EXPECT_EQ(read("FIRST 1 (\"first\")"), "FIRST 1 [3]");
  EXPECT_EQ(read("2"), "FIRST 1 [4]");
  EXPECT_EQ(read("2, berlin"), "FIRST 1 [4 1]");
  EXPECT_EQ(read("2 (2, berlin)"), "FIRST 2 [4 1]");
}

TEST(Policy, ADoubledQuoteInsideQuotesIsOne) { EXPECT_EQ(read("\"a\"\"b c\""), "FIRST 1 [5]"); }

TEST(Policy, NamesAreFoldedUnlessQuotedAndMatchByCaseOnlyWhenNothingMatchesExactly) {
  const std::vector<Member> cases{
      {NodeId{1}, "node"}, {NodeId{2}, "Node"}, {NodeId{3}, "Xy"}, {NodeId{4}, "xY"}, {NodeId{5}, "Up"}};
  EXPECT_EQ(read("NODE", cases), "FIRST 1 [1]");
  EXPECT_EQ(read("\"Node\"", cases), "FIRST 1 [2]");
  expect_begins(read("up, \"uP\"", cases), "column 5:");  // The same replica twice.
  EXPECT_EQ(read("\"xY\"", cases), "FIRST 1 [4]");
  EXPECT_EQ(
      read("xy", cases),
      "column 1: \"xy\" could mean several replicas that differ by case alone\n  to do: quote the name as it is spelt");
}

TEST(Policy, RefusesAnUnknownReplicaAndNamesTheNearest) {
  EXPECT_EQ(read("ANY 1 (oslo, berln)"), "column 14: unknown replica \"berln\"\n  to do: did you mean \"berlin\"?");
  EXPECT_EQ(
      read("paris9999"),
      "column 1: unknown replica \"paris9999\"\n  to do: the replicas are: berlin, Oslo, first, 2, a\"b c, zürich");
  EXPECT_EQ(read("berlin", {}), "column 1: unknown replica \"berlin\"\n  to do: no replica is configured");
  expect_begins(read("\"\""), "column 1: unknown replica \"\"\n");
}

TEST(Policy, RefusesImpossibleCounts) {
  expect_begins(read("ANY 0 (berlin)"), "column 5: the number of replicas must be at least 1");
  expect_begins(read("0 (berlin)"), "column 1: the number of replicas must be at least 1");
  EXPECT_EQ(read("FIRST 3 (berlin, oslo)"),
            "column 7: 3 replicas are wanted of 2\n  to do: lower the number or name more replicas");
  expect_begins(read("oslo AND 2 (berlin)"), "column 10: 2 replicas are wanted of 1");
  expect_begins(read("ANY 99999999999999999999 (berlin)"), "column 5: 99999999999999999999 replicas are wanted of 6");
  expect_begins(read("*", {}), "column 1: 1 replicas are wanted of 0");
}

TEST(Policy, RefusesAReplicaNamedTwiceInOneTermButNotInTwo) {
  EXPECT_EQ(read("berlin, oslo, BERLIN"),
            "column 15: replica \"berlin\" is named twice in one list\n  to do: remove one of them");
  EXPECT_EQ(read("*, berlin"),
            "column 4: replica \"berlin\" is named twice in one list\n"
            "  to do: * already stands for every replica: name it before the *");
  expect_begins(read("*, *"), "column 4: * stands twice in one list");
  EXPECT_EQ(read("berlin AND berlin"), "FIRST 1 [1] & FIRST 1 [1]");
}

TEST(Policy, RefusesWhatIsNotInTheGrammarAndNamesTheColumn) {
  const auto begins = [](std::string_view text, const std::string& wanted) { expect_begins(read(text), wanted); };
  begins("berlin oslo", "column 8: \"oslo\" stands where \",\", AND or the end should be");
  begins("berlin,", "column 8: the policy ends where a replica's name should follow");
  begins(",berlin", "column 1: \",\" stands where a replica's name should be");
  begins("(berlin)", "column 1: \"(\" stands where a replica's name should be");
  begins("ANY 1 berlin", "column 7: \"berlin\" stands where \"(\" should be");
  begins("ANY (berlin)", "column 5: \"(\" stands where the number of replicas after ANY should be");
  begins("first", "column 6: the policy ends where the number of replicas after FIRST should follow");
  begins("ANY 1 (berlin", "column 14: the policy ends where \",\" or \")\" should follow");
  begins("ANY 1 ()", "column 8: \")\" stands where a replica's name should be");
  begins("berlin AND", "column 11: the policy ends where a replica's name should follow");
  begins("AND berlin", "column 1: \"and\" stands where a replica's name should be");
  begins("berlin)", "column 7: \")\" stands where");
  begins("2berlin", "column 2: \"berlin\" stands where");
  begins("node-1", "column 5: unexpected character '-'");
  begins("zürich, x;", "column 10: unexpected character ';'");
  begins(std::string_view("\0", 1), "column 1: unexpected character \\x00");
  begins("berlin, \"oslo", "column 9: a quoted name is not closed");
}

TEST(Policy, RefusesMoreReplicasThanAPolicyCanHave) {
  EXPECT_TRUE(Policy::parse("*", worlds::members(kReplicasMax)).has_value());
  EXPECT_FALSE(Policy::parse("*", worlds::members(kReplicasMax + 1)).has_value());
}

TEST(Policy, MentionsThoseItNames) {
  const auto policy = Policy::parse("ANY 1 (berlin) AND oslo", kMembers);
  ASSERT_TRUE(policy.has_value());
  EXPECT_TRUE(policy->mentions(NodeId{1}));
  EXPECT_TRUE(policy->mentions(NodeId{2}));
  EXPECT_FALSE(policy->mentions(NodeId{3}));
}

// Whatever the text, a policy that is accepted keeps what the type promises, and an error names a column within the
// text.
TEST(Policy, KeepsItsInvariantsForRandomTexts) {
  const char* const words[] = {"ANY", "first", "AND",    "1",    "2",     "0",  "(", ")",
                               ",",   "*",     "berlin", "OSLO", "\"2\"", "\"", " ", "x"};
  std::mt19937_64 random(7);
  int accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    for (auto n = random() % 9; n > 0; --n) text += std::string(words[random() % std::size(words)]) + " ";
    const auto policy = Policy::parse(text, kMembers);
    if (!policy) {
      ASSERT_TRUE(policy.error().where.starts_with("column ")) << text;
      ASSERT_LE(std::stoul(policy.error().where.substr(7)), text.size() + 1) << text;
      continue;
    }
    ++accepted;
    for (const Policy::Term& term : policy->terms()) {
      ASSERT_GE(term.count, 1u) << text;
      ASSERT_LE(term.count, term.members.size()) << text;
      for (const NodeId id : term.members) ASSERT_EQ(std::ranges::count(term.members, id), 1) << text;
    }
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace slipstream::ack
