#include "seal/aead.h"

#include <gtest/gtest.h>

#include "seal/digest.h"
#include "tests/seal/hex.h"

namespace slipstream::seal {
namespace {

class AeadBackends : public testing::TestWithParam<Aead::Backend> {
 protected:
  Aead aead(std::string_view key_hex) { return Aead(secret_from(key_hex), GetParam()); }
};

// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
TEST_P(AeadBackends, MatchThePublishedVector) {
  Aead cipher = aead("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
  Nonce nonce;
  std::ranges::copy(from_hex("cafebabefacedbaddecaf888"), nonce.begin());
  const auto header = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  const auto text = from_hex(
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
      "ba637b39");
  const std::string wanted =
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
      "bcc9f662";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    std::vector<std::byte> out(text.size());
    const Tag tag = cipher.seal(nonce, header, std::span(text).first(cut), std::span(text).subspan(cut), out);
    EXPECT_EQ(to_hex(out), wanted) << "cut at " << cut;
    EXPECT_EQ(to_hex(tag), "76fc6ece0f4e1768cddf8853bb2d551b") << "cut at " << cut;
    EXPECT_TRUE(cipher.open(nonce, header, out, tag));
    EXPECT_EQ(out, text);
  }
}

TEST_P(AeadBackends, RefuseEveryChangedBit) {
  Aead cipher = aead(std::string(64, '7'));
  const auto header = from_hex("00112233");
  std::vector<std::byte> text(100, std::byte{9});
  const Tag tag = cipher.seal(Nonce{}, header, text, {}, text);
  const auto opens = [&](auto h, auto t, auto g) { return cipher.open(Nonce{}, h, t, g); };
  EXPECT_TRUE(opens(header, text, tag));
  const auto flipped = [](auto bytes, std::size_t bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    return bytes;
  };
  for (std::size_t bit = 0; bit < header.size() * 8; ++bit) EXPECT_FALSE(opens(flipped(header, bit), text, tag));
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) EXPECT_FALSE(opens(header, flipped(text, bit), tag));
  for (std::size_t bit = 0; bit < tag.size() * 8; ++bit) EXPECT_FALSE(opens(header, text, flipped(tag, bit)));
}

INSTANTIATE_TEST_SUITE_P(Each, AeadBackends, testing::Values(Aead::Backend::kBest, Aead::Backend::kOpenSsl));

// RFC 5869, test case 1, its second step.
TEST(Digests, ExpandAsPublished) {
  const Secret secret = secret_from("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  std::array<std::byte, 42> out{};
  const auto info = from_hex("f0f1f2f3f4f5f6f7f8f9");
  expand(secret, {reinterpret_cast<const char*>(info.data()), info.size()}, out);
  EXPECT_EQ(to_hex(out), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
}

TEST(Keys, AreWrittenAndReadAsText) {
  const Secret secret = Secret::random(counting_source(1));
  const std::string text = to_text(secret.bytes());
  EXPECT_EQ(text.size(), 44u);
  const auto read = parse_key(text);
  ASSERT_TRUE(read);
  EXPECT_TRUE(std::ranges::equal(*read, secret.bytes()));
  EXPECT_FALSE(parse_key(""));
  EXPECT_FALSE(parse_key(text.substr(1)));
  EXPECT_FALSE(parse_key(text + "="));
  EXPECT_FALSE(parse_key(text.substr(0, 42) + "=="));
  EXPECT_FALSE(parse_key(std::string(43, '*') + "="));
  EXPECT_FALSE(parse_key(std::string(44, 'A')));
}

}  // namespace
}  // namespace slipstream::seal
