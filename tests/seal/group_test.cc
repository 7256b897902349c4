#include "seal/group.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

#include "seal/digest.h"
#include "tests/seal/hex.h"

namespace slipstream::seal {
namespace {

struct Sealed {
  GroupSeal seal;
  std::vector<std::byte> text;
};

class Groups : public testing::Test {
 protected:
  static GroupKey key(std::uint32_t id) { return {id, Secret::random(counting_source(id))}; }
  static Sealed seal(GroupSealing& by) {
    Sealed out{{}, std::vector<std::byte>(kText.size())};
    out.seal = by.seal(as_bytes(kText), out.text);
    return out;
  }
  // Takes a copy: opening deciphers in place.
  GroupOpening::Outcome open(Sealed sealed) {
    const auto outcome = opening.open(sealed.seal, sealed.text);
    if (outcome == GroupOpening::Outcome::kOpened) {
      EXPECT_TRUE(std::ranges::equal(sealed.text, as_bytes(kText)));
    }
    return outcome;
  }
  using enum GroupOpening::Outcome;
  static constexpr std::string_view kText = "WAL that every replica is sent";

  GroupOpening opening;
};

TEST_F(Groups, OpenWhatWasSealedUnderAKeyTheyWereGiven) {
  GroupSealing sealing(key(7));
  const Sealed sealed = seal(sealing);
  EXPECT_EQ(open(sealed), kUnknownKey);
  opening.add(key(7));
  EXPECT_EQ(open(sealed), kOpened);
  Sealed changed = sealed;
  changed.text[3] ^= std::byte{1};
  EXPECT_EQ(open(changed), kForged);
  changed = sealed;
  changed.seal.number += 1;
  EXPECT_EQ(open(changed), kForged);
  changed = sealed;
  changed.seal.tag[15] ^= std::byte{1};
  EXPECT_EQ(open(changed), kForged);
}

TEST_F(Groups, KnowTheLatestTwoKeys) {
  GroupSealing first(key(1)), second(key(2)), third(key(3));
  for (const std::uint32_t id : {1u, 2u, 2u, 1u}) opening.add(key(id));  // Told again, late.
  EXPECT_EQ(open(seal(first)), kOpened);
  EXPECT_EQ(open(seal(second)), kOpened);
  opening.add(key(3));
  EXPECT_EQ(open(seal(first)), kUnknownKey);
  EXPECT_EQ(open(seal(second)), kOpened);
  EXPECT_EQ(open(seal(third)), kOpened);
}

TEST_F(Groups, NeverSealTwoTextsUnderOneNumber) {
  GroupSealing sealing(key(1));
  std::set<std::uint64_t> numbers;
  std::set<std::string> texts;
  for (int i = 0; i < 1000; ++i) {
    const Sealed sealed = seal(sealing);
    numbers.insert(sealed.seal.number);
    texts.insert(to_hex(sealed.text));
  }
  EXPECT_EQ(numbers.size(), 1000u);
  EXPECT_EQ(texts.size(), 1000u);
  EXPECT_EQ(sealing.sealed(), 1000u);
}

}  // namespace
}  // namespace slipstream::seal
