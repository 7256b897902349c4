#include "app/log_order.h"

#include <gtest/gtest.h>

#include "app/promotion.h"
#include "base/digest.h"

// Which log is promoted (P4), by evidence that is made of real bytes.
namespace slipstream::app {
namespace {

constexpr std::uint64_t kBlock = wal::kBlockBytes;

// Bytes that follow from their position, and from `other` behind a position.
struct Bytes {
  std::uint64_t end;
  std::uint64_t other_from = UINT64_MAX;
  std::byte at(std::uint64_t position) const {
    return static_cast<std::byte>((position * 2654435761u >> 7) + (position >= other_from ? 1 : 0));
  }
  Digest128 digest(LsnRange range) const {
    std::vector<std::byte> bytes;
    for (std::uint64_t at_position = range.begin.value; at_position < range.end.value; ++at_position)
      bytes.push_back(at(at_position));
    return xxh3_128(bytes);
  }
};

struct Member {
  node::Evidence evidence;
  Bytes bytes;
};

Member member(const std::string& name, Bytes bytes, std::uint32_t incarnation) {
  node::Evidence e;
  e.name = name;
  e.id = NodeId{static_cast<std::uint16_t>(name[0])};
  e.log_id = LogId{{1, e.id.value}};
  e.system = SystemId{7};
  e.timeline = TimelineId{1};
  e.promise = {{2, 0}, {}, "a"};
  e.held_epoch = {1, incarnation};
  e.durable_end = e.counted_end = Lsn{bytes.end};
  e.standby_ready = true;
  for (std::uint32_t i = 1; i <= incarnation; ++i)
    e.epoch_map.push_back({{1, i}, Lsn{(i - 1) * 1000}, TimelineId{1}, Identity{{5, 5}}});
  e.policy = {1, "ANY 1 (a, b)", {{"a", NodeId{'a'}, LogId{{1, 'a'}}}, {"b", NodeId{'b'}, LogId{{1, 'b'}}}}};
  for (std::uint64_t at = 0; at < bytes.end; at += kBlock) {
    const LsnRange range{Lsn{at}, Lsn{std::min(bytes.end, at + kBlock)}};
    e.blocks.push_back({range, bytes.digest(range)});
  }
  return {e, bytes};
}

// As the candidate's daemon answers: with digests of all that the others hold.
node::Evidence with_digests_of(const Member& own, const std::vector<node::Evidence>& others) {
  node::Evidence out = own.evidence;
  for (const LsnRange& range : missing_ranges(out, compared_ranges(others)))
    out.blocks.push_back({range, own.bytes.digest(range)});
  return out;
}

std::string outcome(const Member& own, const std::vector<Member>& others, PromotionOptions options = {}) {
  std::vector<node::Evidence> theirs;
  for (const Member& each : others) theirs.push_back(each.evidence);
  node::Evidence ours = with_digests_of(own, theirs);
  ours.promise.candidate = own.evidence.name;
  for (node::Evidence& each : theirs) each.promise.candidate = own.evidence.name;
  const auto plan = plan_promotion(ours, theirs, options);
  return !plan ? plan.error().message()
               : "promoted" + (plan->may_be_missing.empty() ? "" : ": " + plan->may_be_missing);
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(LogOrder, ChoosesTheLongerOfTwoOfWhichOneIsAPrefix) {
  const Member a = member("a", {3 * kBlock + 100}, 3), b = member("b", {2 * kBlock + 77}, 3);
  EXPECT_EQ(outcome(a, {b}), "promoted");
  EXPECT_TRUE(says(outcome(b, {a}), "a holds the better log"));
  EXPECT_EQ(outcome(a, {member("b", {3 * kBlock + 100}, 3)}), "promoted") << "a tie";
}

TEST(LogOrder, ChoosesTheLongerAlsoIfItsEpochIsEarlierOnceItsBytesAreKnownToBeEqual) {
  const Member a = member("a", {2 * kBlock + 100}, 2), b = member("b", {kBlock + 77}, 3);
  EXPECT_EQ(outcome(a, {b}), "promoted");
}

TEST(LogOrder, ChoosesTheLaterLabelAtTheFirstDifference) {
  const Member shorter = member("a", {2 * kBlock + 50, kBlock + 10}, 3), longer = member("b", {4 * kBlock}, 2);
  EXPECT_EQ(outcome(shorter, {longer}), "promoted");
  EXPECT_TRUE(says(outcome(longer, {shorter}), "a holds the better log"));
}

// The refusals: neither the length nor a label says which of two histories of one epoch was acknowledged.
TEST(LogOrder, RefusesOtherBytesOfTheSameEpochWhateverTheLengths) {
  for (const std::uint64_t own_end : {kBlock + 50, kBlock + 77, 2 * kBlock, 3 * kBlock + 9})
    for (const std::uint64_t their_end : {kBlock + 77, 2 * kBlock, 3 * kBlock + 9}) {
      const Member a = member("a", {own_end}, 3), b = member("b", {their_end, 40}, 3);
      EXPECT_TRUE(says(outcome(a, {b}), "a and b hold different bytes behind 0/0, both of epoch 1.3"))
          << own_end << " " << their_end << outcome(a, {b});
    }
}

TEST(LogOrder, RefusesOtherBytesInTheLastBlockAlthoughThatEndsElsewhere) {
  const Member a = member("a", {2 * kBlock + 900}, 3), b = member("b", {2 * kBlock + 700, 2 * kBlock + 600}, 3);
  EXPECT_EQ(first_difference(a.evidence, b.evidence), std::nullopt) << "their own blocks alone do not tell";
  EXPECT_TRUE(says(outcome(a, {b}), "different bytes behind 0/20000, both of epoch 1.3")) << outcome(a, {b});
}

TEST(LogOrder, RefusesOtherBytesOfAThirdMemberToo) {
  const Member a = member("a", {2 * kBlock}, 3), b = member("b", {kBlock}, 3), c = member("c", {kBlock + 5, 40}, 3);
  EXPECT_TRUE(says(outcome(a, {b, c}), "a and c hold different bytes"));
  EXPECT_TRUE(says(outcome(a, {c, b}), "a and c hold different bytes"));
}

TEST(LogOrder, RefusesOtherBytesOfAnEarlierEpochThatBothHoldOn) {
  Member a = member("a", {2 * kBlock}, 3), b = member("b", {2 * kBlock, 40}, 3);
  for (Member* each : {&a, &b})
    each->evidence.held_epoch = {}, each->evidence.counted_end = {};  // Labels from the maps alone.
  b.evidence.epoch_map.pop_back();
  EXPECT_TRUE(says(outcome(a, {b}), "both of epoch 1.1")) << outcome(a, {b});
}

TEST(LogOrder, RefusesAnEpochOfTwoOwnersOrTwoTimelines) {
  const Member a = member("a", {2 * kBlock}, 3);
  Member b = member("b", {kBlock}, 3);
  b.evidence.epoch_map[1].identity = Identity{{6, 6}};
  EXPECT_TRUE(says(outcome(a, {b}), "both hold WAL of epoch 1.2, but not of the same primary"));
  b = member("b", {kBlock}, 3);
  b.evidence.epoch_map[2].timeline = TimelineId{2};
  EXPECT_TRUE(says(outcome(a, {b}), "both hold WAL of epoch 1.3"));
}

TEST(LogOrder, RefusesTheLongerOfAnEarlierEpochWhereNoDigestsSayThatTheOtherIsAPrefix) {
  Member a = member("a", {3 * kBlock}, 2), b = member("b", {2 * kBlock}, 3);
  b.evidence.blocks.clear();
  EXPECT_TRUE(says(outcome(a, {b}), "no digests say whether they are equal to there"));
  EXPECT_TRUE(says(outcome(b, {a}), "a holds the better log")) << "its daemon knows: it has both ends' bytes";
  // Of equal lengths, or the same epoch, it does not matter; nor below what is final in both.
  b.evidence.durable_end = b.evidence.counted_end = a.evidence.durable_end;
  EXPECT_EQ(outcome(b, {a}), "promoted");
  EXPECT_TRUE(says(outcome(a, {b}), "b holds the better log"));
  b = member("b", {2 * kBlock}, 2);
  b.evidence.blocks.clear();
  EXPECT_EQ(outcome(a, {b}), "promoted");
  b = member("b", {2 * kBlock}, 3);
  b.evidence.blocks.clear();
  a.evidence.final_end = b.evidence.final_end = Lsn{2 * kBlock};
  EXPECT_EQ(outcome(a, {b}), "promoted");
}

// b has removed what its standby needs no more: nobody has digests of both from where a is final to there.
TEST(LogOrder, ComparesFromWhereTheLaterLogBeginsWhereTheOtherIsFinalBelow) {
  const auto begins_later = [](Bytes bytes) {
    Member b = member("b", bytes, 3);
    b.evidence.log_begin = b.evidence.final_end = Lsn{2 * kBlock};
    std::erase_if(b.evidence.blocks, [](const auto& block) { return block.range.begin < Lsn{2 * kBlock}; });
    return b;
  };
  Member a = member("a", {4 * kBlock + 9}, 2);
  a.evidence.final_end = Lsn{kBlock};
  const Member prefix = begins_later({3 * kBlock + 100});
  EXPECT_EQ(outcome(a, {prefix}), "promoted");
  EXPECT_TRUE(says(outcome(begins_later({3 * kBlock}), {a}), "a holds the better log"));
  EXPECT_TRUE(says(outcome(a, {begins_later({3 * kBlock + 100, 3 * kBlock + 50})}), "b holds the better log"));
  Member unknown = prefix;
  unknown.evidence.blocks.clear();
  a.evidence.blocks.clear();
  EXPECT_TRUE(says(outcome(a, {unknown}), "no digests say whether they are equal to there"));
}

// Of a page's header alone nobody can tell.
TEST(LogOrder, DoesNotCompareFromWhereTheLaterLogBeginsWithLessThanABlock) {
  Member a = member("a", {4 * kBlock}, 2), b = member("b", {2 * kBlock + 40}, 3);
  a.evidence.final_end = Lsn{kBlock};
  b.evidence.log_begin = b.evidence.final_end = Lsn{2 * kBlock};
  std::erase_if(b.evidence.blocks, [](const auto& block) { return block.range.begin < Lsn{2 * kBlock}; });
  EXPECT_TRUE(says(outcome(a, {b}), "no digests say whether they are equal to there")) << outcome(a, {b});
}

// Nothing that both hold can be compared. What is final at a's owner, b can only hold equally: it got it later.
TEST(LogOrder, GoesByWhatIsFinalAtTheirOwnerWhereTheLongerBeginsBehindTheOthersEnd) {
  for (const Lsn begin : {Lsn{2 * kBlock}, Lsn{3 * kBlock}}) {
    Member a = member("a", {4 * kBlock}, 2), b = member("b", {2 * kBlock}, 3);
    b.evidence.final_end = Lsn{kBlock};
    a.evidence.log_begin = a.evidence.final_end = begin;
    std::erase_if(a.evidence.blocks, [&](const auto& block) { return block.range.begin < begin; });
    EXPECT_EQ(outcome(a, {b}), "promoted");
    EXPECT_TRUE(says(outcome(b, {a}), "a holds the better log")) << outcome(b, {a});
    Member of_another = b;
    of_another.evidence.held_epoch = {2, 1};
    of_another.evidence.epoch_map.push_back({{2, 1}, Lsn{kBlock}, TimelineId{1}, Identity{{6, 6}}});
    EXPECT_TRUE(says(outcome(a, {of_another}), "no digests say whether they are equal to there"));
    Member tail = member("b", {2 * kBlock}, 4);  // Beyond kBlock of an epoch before.
    tail.evidence.final_end = tail.evidence.counted_end = Lsn{kBlock};
    tail.evidence.epoch_map.back().begin = Lsn{5 * kBlock};
    EXPECT_EQ(label_at(tail.evidence, Lsn{2 * kBlock - 1}), (Epoch{1, 3}));
    EXPECT_TRUE(says(outcome(a, {tail}), "no digests say whether they are equal to there")) << outcome(a, {tail});
  }
}

TEST(LogOrder, OfNeitherIsTheOperatorsWordAndIsToldOf) {
  const Member a = member("a", {2 * kBlock}, 3), b = member("b", {2 * kBlock, 40}, 3);
  EXPECT_EQ(outcome(a, {b}, {.sole_survivor = false, .accept_loss = true}),
            "promoted: a and b hold different bytes behind 0/0, both of epoch 1.3");
}

TEST(LogOrder, DigestsAreAddedOfWhatLiesWithinTheLogAndOneBlock) {
  const Member a = member("a", {kBlock + 100}, 3);
  const std::vector<LsnRange> wanted{{Lsn{0}, Lsn{kBlock}},           {Lsn{kBlock}, Lsn{kBlock + 50}},
                                     {Lsn{kBlock}, Lsn{kBlock + 50}}, {Lsn{kBlock}, Lsn{kBlock + 101}},
                                     {Lsn{10}, Lsn{kBlock + 10}},     {Lsn{5}, Lsn{5}}};
  EXPECT_EQ(missing_ranges(a.evidence, wanted), (std::vector<LsnRange>{{Lsn{kBlock}, Lsn{kBlock + 50}}}));
  EXPECT_EQ(*parse_ranges(ranges_json(wanted)), wanted);
  EXPECT_FALSE(parse_ranges(Json::parse(R"([["0/1"]])")));
  EXPECT_FALSE(parse_ranges(Json::parse(R"([["0/2", "0/1"]])")));
}

}  // namespace
}  // namespace slipstream::app
