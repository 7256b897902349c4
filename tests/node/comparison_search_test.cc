#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/digest.h"
#include "node/comparison.h"

// The first byte that differs, found by digests.
namespace slipstream::node {
namespace {

constexpr Lsn kBegin{0x100000};
constexpr std::uint64_t kBlock = wal::kBlockBytes;

class ComparisonSearch : public testing::Test {
 protected:
  using Outcome = Comparison::Outcome;

  ComparisonSearch() { resize(3 * kBlock); }
  void resize(std::size_t size) {
    std::mt19937 random(7);
    mine.resize(size);
    for (auto& byte : mine) byte = static_cast<std::byte>(random());
    theirs = mine;
  }
  static std::span<const std::byte> part(const std::vector<std::byte>& of, LsnRange range) {
    return std::span(of).subspan((range.begin - kBegin).value, range.size().value);
  }
  protocol::DigestReply reply(LsnRange wanted) const {
    protocol::DigestReply out;
    for (Lsn at = wanted.begin; at < wanted.end;) {
      const LsnRange block{at, std::min(wanted.end, align_down(at, kBlock) + ByteCount{kBlock})};
      out.digests.push_back({block, xxh3_128(part(theirs, block))});
      at = block.end;
    }
    return out;
  }
  // To the end, as Peer does it.
  Outcome compare(Lsn begin = kBegin) {
    comparison.start({begin, kBegin + ByteCount{mine.size()}}, {}, {});
    for (requests = 0;;) {
      if (const auto wanted = comparison.wanted()) {
        EXPECT_EQ(comparison.on_reply(reply(*wanted)), protocol::Verdict::kAccepted);
        if (++requests > 100) return Outcome::kGone;
      }
      const auto block = comparison.next_block();
      EXPECT_TRUE(block.has_value());
      if (!block) return Outcome::kGone;
      const Outcome outcome = comparison.on_block(read(*block));
      if (outcome == Outcome::kDifferent)
        comparison.search();
      else if (outcome != Outcome::kGoesOn)
        return outcome;
    }
  }
  std::vector<std::byte> read(LsnRange range) {
    const auto bytes = part(mine, range);
    std::vector<std::byte> out(bytes.begin(), bytes.end());
    if (misreads > 0) --misreads, out[out.size() / 3] ^= std::byte{1};
    return out;
  }
  void expect_found(std::size_t first, std::vector<std::size_t> others = {}) {
    theirs = mine;
    others.push_back(first);
    for (const std::size_t each : others) theirs[each] ^= std::byte{0x40};
    ASSERT_EQ(compare(), Outcome::kFound) << first;
    ASSERT_EQ(comparison.compared_end(), kBegin + ByteCount{first});
    ASSERT_LE(requests, 1u + 17u) << "it halves";
  }

  Comparison comparison;
  std::vector<std::byte> mine, theirs;
  std::size_t requests = 0;
  int misreads = 0;  // So many own blocks are read wrongly.
};

TEST_F(ComparisonSearch, FindsTheFirstByteOfABlockTheLastAndAnyOther) {
  for (const std::size_t at : {std::size_t{0}, kBlock - 1, kBlock, 2 * kBlock - 1, 3 * kBlock - 1}) expect_found(at);
  std::mt19937 random(3);
  for (int i = 0; i < 100; ++i) expect_found(random() % mine.size());
}

TEST_F(ComparisonSearch, FindsTheFirstOfManyDifferences) {
  std::mt19937 random(4);
  for (int i = 0; i < 50; ++i) {
    const std::size_t first = random() % (mine.size() - 2000);
    std::vector<std::size_t> others;
    for (int k = 0; k < 20; ++k) others.push_back(first + 1 + random() % (mine.size() - first - 1));
    std::ranges::sort(others);  // What is changed twice is as it was.
    others.erase(std::unique(others.begin(), others.end()), others.end());
    expect_found(first, others);
  }
}

TEST_F(ComparisonSearch, FindsItInABlockThatIsNotWhole) {
  for (const std::size_t rest : {1u, 2u, 3u, 77u, 65'535u}) {
    resize(kBlock + rest);
    expect_found(kBlock);
    expect_found(kBlock + rest - 1);
    expect_found(kBlock + rest / 2);
  }
}

TEST_F(ComparisonSearch, FindsItInABlockOfWhichTheLogHasTheRest) {
  theirs[5000] ^= std::byte{1};
  for (const std::uint64_t begin : {4999u, 5000u}) {
    EXPECT_EQ(compare(kBegin + ByteCount{begin}), Outcome::kFound);
    EXPECT_EQ(comparison.compared_end(), kBegin + ByteCount{5000});
  }
}

// What was read wrongly once must not cost a log its end.
TEST_F(ComparisonSearch, FindsNothingIfTheBlockIsEqualWhenItIsReadAgain) {
  misreads = 1;
  EXPECT_EQ(compare(), Outcome::kDone);
  EXPECT_GT(requests, 10u);
  misreads = 1;
  theirs[2 * kBlock + 5] ^= std::byte{1};
  EXPECT_EQ(compare(), Outcome::kFound);
  EXPECT_EQ(comparison.compared_end(), kBegin + ByteCount{2 * kBlock + 5});
}

TEST_F(ComparisonSearch, IsForgottenWhenItStartsAnew) {
  theirs[10] ^= std::byte{1};
  comparison.start({kBegin, kBegin + ByteCount{mine.size()}}, {}, {});
  ASSERT_EQ(comparison.on_reply(reply(*comparison.wanted())), protocol::Verdict::kAccepted);
  ASSERT_EQ(comparison.on_block(read(*comparison.next_block())), Outcome::kDifferent);
  comparison.search();
  EXPECT_EQ(comparison.wanted(), (LsnRange{kBegin, kBegin + ByteCount{kBlock / 2}}));
  theirs = mine;
  EXPECT_EQ(compare(), Outcome::kDone);
  EXPECT_EQ(requests, 1u);
}

}  // namespace
}  // namespace slipstream::node
