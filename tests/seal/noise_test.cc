#include "seal/noise.h"

#include <gtest/gtest.h>

#include "tests/seal/hex.h"

namespace slipstream::seal {
namespace {

// The published vector for this pattern: the collection of the Noise implementation "cacophony", vectors/cacophony.txt,
// in the format that the Noise project describes.
struct Vector {
  Secret cluster_key = secret_from("54686973206973206d7920417573747269616e20706572737065637469766521");
  std::vector<std::byte> prologue = from_hex("4a6f686e2047616c74");
  KeyPair initiator = key_pair_of(secret_from("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"));
  KeyPair responder = key_pair_of(secret_from("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"));
  KeyPair initiator_ephemeral =
      key_pair_of(secret_from("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"));
  KeyPair responder_ephemeral =
      key_pair_of(secret_from("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"));
  std::string first =
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79441f33bde990995eea7167375d6b68e2a7fa07887dd4f0f2"
      "1023317d7b04fb0a67";
  std::string second =
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843e3502578269a63176a4e59632b20df3393996180e26104"
      "8266e49c0c0d9240";

  NoiseHandshake initiates() const {
    return {
        NoiseHandshake::Side::kInitiator, initiator, responder.public_key, cluster_key, prologue, initiator_ephemeral};
  }
  NoiseHandshake responds() const {
    return {
        NoiseHandshake::Side::kResponder, responder, initiator.public_key, cluster_key, prologue, responder_ephemeral};
  }
};

TEST(Noise, MatchesThePublishedVector) {
  const Vector v;
  EXPECT_EQ(to_hex(v.responder.public_key), "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
  EXPECT_EQ(to_hex(v.initiator.public_key), "6bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a");
  NoiseHandshake initiator = v.initiates(), responder = v.responds();
  const auto first = initiator.write(as_bytes("Ludwig von Mises"));
  EXPECT_EQ(to_hex(first), v.first);
  EXPECT_EQ(responder.read(first), from_hex("4c756477696720766f6e204d69736573"));
  const auto second = responder.write(as_bytes("Murray Rothbard"));
  EXPECT_EQ(to_hex(second), v.second);
  EXPECT_EQ(initiator.read(second), from_hex("4d757272617920526f746862617264"));
  EXPECT_EQ(to_hex(initiator.transcript()), "574508da75f9e5a1c25707190adc49e63c754ec27a4183d9e6acc312e076613a");
  EXPECT_EQ(initiator.transcript(), responder.transcript());

  // The vector goes on with a message each way under the roots themselves.
  const auto roots = initiator.roots();
  auto text = from_hex("462e20412e20486179656b");
  const Tag tag = Aead(roots.initiator_to_responder).seal(Nonce{}, {}, text, {}, text);
  EXPECT_EQ(to_hex(text) + to_hex(tag), "a08f4d4f142f605e9b30daa66784552576b30265889139b97f15cf");
  text = from_hex("4361726c204d656e676572");
  const Tag back = Aead(responder.roots().responder_to_initiator).seal(Nonce{}, {}, text, {}, text);
  EXPECT_EQ(to_hex(text) + to_hex(back), "5871e43af881754e8ba7def42a69c23bfc9f7d47c3c1009f8ed986");
}

TEST(Noise, RefusesWhoeverDiffersInAnything) {
  const Vector right;
  const auto first = right.initiates().write({});
  EXPECT_TRUE(right.responds().read(first));

  Vector other_cluster = right;
  other_cluster.cluster_key.bytes()[0] ^= std::byte{1};
  EXPECT_FALSE(other_cluster.responds().read(first));
  Vector other_prologue = right;
  other_prologue.prologue.push_back(std::byte{0});
  EXPECT_FALSE(other_prologue.responds().read(first));
  Vector other_initiator = right;  // Knows the cluster key, but not the pinned initiator's secret.
  other_initiator.initiator =
      key_pair_of(secret_from("0f1ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"));
  EXPECT_FALSE(right.responds().read(other_initiator.initiates().write({})));
  Vector other_responder = right;
  other_responder.responder =
      key_pair_of(secret_from("0f3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"));
  EXPECT_FALSE(other_responder.responds().read(first));

  for (std::size_t i = 0; i < first.size() * 8; ++i) {
    auto damaged = first;
    damaged[i / 8] ^= static_cast<std::byte>(1u << (i % 8));
    EXPECT_FALSE(right.responds().read(damaged)) << "bit " << i;
  }
  for (std::size_t bytes = 0; bytes < first.size(); ++bytes)
    EXPECT_FALSE(right.responds().read(std::span(first).first(bytes))) << bytes << " bytes";
  EXPECT_FALSE(right.responds().read(std::vector<std::byte>(first.size()))) << "a key that leads nowhere";
}

}  // namespace
}  // namespace slipstream::seal
