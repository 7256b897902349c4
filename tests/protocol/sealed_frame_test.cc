#include "protocol/sealed_frame.h"

#include <gtest/gtest.h>

#include "tests/protocol/renew_tag.h"
#include "tests/protocol/samples.h"
#include "tests/seal/hex.h"

namespace slipstream::protocol {
namespace {

class SealedFrames : public testing::Test {
 protected:
  Bytes sealed(const Bytes& plain) {
    Bytes out(plain.size());
    const std::size_t head = plain[3] == std::byte{1} ? std::min(kDataHeaderBytes, plain.size()) : plain.size();
    seal_frame(std::span(plain).first(head), std::span(plain).subspan(head), sealing, out);
    return out;
  }

  // In its place; how it arrived is `arrival`.
  Verdict open(Bytes& bytes) {
    arrival = Arrival(bytes);
    return open_frame(arrival, opening, group);
  }
  // Sealed by a peer, opened, and decoded.
  Verdict reopened(const Bytes& plain) {
    Bytes bytes = sealed(plain);
    Frame out;
    const Verdict verdict = open(bytes);
    return verdict == Verdict::kAccepted ? decode(arrival, out) : verdict;
  }

  Arrival arrival;
  seal::Secret root = seal::Secret::random(seal::counting_source(5));
  seal::Sealing sealing{root, 77};
  seal::Opening opening{root, 77};
  seal::GroupOpening group;
};

TEST_F(SealedFrames, OfEveryKindAreThePlaintextFramesAgain) {
  for (const Sample& sample : samples()) {
    const Bytes plain = encoded(sample);
    Bytes bytes = sealed(plain);
    EXPECT_EQ(verdict_of(bytes), Verdict::kSealed) << sample.name;
    Outside outside;
    ASSERT_EQ(peek(bytes, outside), Verdict::kAccepted);
    EXPECT_EQ(outside.kind, sample.header.kind);
    EXPECT_EQ(outside.source, sample.header.source);
    EXPECT_EQ(outside.destination, sample.header.destination);
    EXPECT_EQ(outside.key >> 8, 77u);
    ASSERT_EQ(open(bytes), Verdict::kAccepted) << sample.name;
    Frame out, wanted;
    ASSERT_EQ(decode(arrival, out), Verdict::kAccepted) << sample.name;
    ASSERT_EQ(decode(plain, wanted), Verdict::kAccepted);
    // But for key and packet number, which are the session's, and the tag.
    EXPECT_EQ(out.header.key >> 8, 77u);
    out.header.key = 0, out.header.packet_number = wanted.header.packet_number;
    EXPECT_EQ(out.header, wanted.header) << sample.name;
    std::ranges::copy(number(0, 4), bytes.begin() + kKeyOffset);
    std::copy_n(plain.begin() + kPacketNumberOffset, 8, bytes.begin() + kPacketNumberOffset);
    renew_tag(bytes);
    EXPECT_EQ(bytes, plain) << sample.name;
  }
}

// Only opening a frame makes one whose tag need not be looked at.
static_assert(!std::is_convertible_v<std::span<std::byte>, Arrival>);
static_assert(!std::is_constructible_v<Arrival, std::span<std::byte>, bool>);

TEST_F(SealedFrames, AreProvenByBeingOpenedAndByNothingElse) {
  const Bytes intact = sealed(encoded(sample("probe")));
  Bytes bytes = intact;
  Frame out;
  EXPECT_FALSE(Arrival(bytes).is_proven());
  ASSERT_EQ(open(bytes), Verdict::kAccepted);
  EXPECT_TRUE(arrival.is_proven());
  EXPECT_EQ(decode(arrival, out), Verdict::kAccepted);
  // The same bytes, without having been opened: sealed as they say, and with another tag than in plaintext.
  EXPECT_EQ(decode(bytes, out), Verdict::kSealed);
  EXPECT_EQ(decode(Arrival(bytes), out), Verdict::kSealed);
  std::ranges::copy(number(0, 4), bytes.begin() + kKeyOffset);
  EXPECT_EQ(decode(Arrival(bytes), out), Verdict::kChecksum);
  // It came again: what was proven of the place where it lies is so no longer.
  bytes = intact;
  EXPECT_EQ(open_frame(arrival, opening, group), Verdict::kReplayed);
  EXPECT_FALSE(arrival.is_proven());
  EXPECT_EQ(decode(arrival, out), Verdict::kSealed);
}

// A peer may be broken, too: what it sealed is refused for all that a plaintext frame with a right tag is refused for.
TEST_F(SealedFrames, OfABrokenPeerAreRefusedAsPlaintextIs) {
  int refused = 0;
  for (const Sample& sample : samples()) {
    const Bytes plain = encoded(sample);
    for (std::size_t bit = 0; bit < plain.size() * 8; ++bit) {
      const std::size_t at = bit / 8;
      const bool sealing_writes_it = (at >= kKeyOffset && at < kKeyOffset + 4) ||
                                     (at >= kPacketNumberOffset && at < kPacketNumberOffset + 8) ||
                                     (at >= kTagOffset && at < kTagOffset + kTagBytes);
      const bool group_sealed = bit == 4 * 8;
      if (sealing_writes_it || group_sealed) continue;
      Bytes broken = plain;
      broken[at] ^= static_cast<std::byte>(1u << (bit % 8));
      renew_tag(broken);
      const Verdict wanted = verdict_of(broken);
      ASSERT_EQ(reopened(broken), wanted) << sample.name << " bit " << bit;
      refused += wanted != Verdict::kAccepted;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST_F(SealedFrames, ShowNothingOfWhatTheyCarry) {
  const Bytes plain = encoded(sample("data"));
  const Bytes bytes = sealed(plain);
  for (std::size_t at = kHeaderBytes; at + 8 <= plain.size(); ++at)
    EXPECT_EQ(std::ranges::search(bytes, std::span(plain).subspan(at, 8)).size(), 0u) << "at " << at;
}

TEST_F(SealedFrames, AreRefusedWhenAnyBitChanged) {
  for (const char* name : {"data", "ack", "hello"}) {
    const Bytes bytes = sealed(encoded(sample(name)));
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      Bytes changed = bytes;
      changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      const Verdict verdict = open(changed);
      EXPECT_TRUE(verdict == Verdict::kForged || verdict == Verdict::kUnknownKey || verdict == Verdict::kReplayed ||
                  verdict == Verdict::kTruncated)
          << name << " bit " << bit;
    }
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_NE(open(cut), Verdict::kAccepted) << name << " of " << size << " bytes";
    }
    Bytes intact = bytes;
    EXPECT_EQ(open(intact), Verdict::kAccepted);
  }
}

class GroupSealedFrames : public SealedFrames {
 protected:
  Bytes grouped(const Bytes& frame) {
    const auto payload = std::span(frame).subspan(kDataHeaderBytes);
    Bytes out(kGroupedHeadBytes + payload.size());
    const seal::GroupSeal seal = shared.seal(payload, std::span(out).subspan(kGroupedHeadBytes));
    seal_grouped_head(std::span(frame).first(kDataHeaderBytes), seal, sealing, out);
    return out;
  }
  seal::GroupKey key{9, seal::Secret::random(seal::counting_source(6))};
  seal::GroupSealing shared{key};
  const Bytes plain = encoded(sample("data"));
};

TEST_F(GroupSealedFrames, AreTheSameDataAgain) {
  group.add(key);
  Bytes bytes = grouped(plain);
  EXPECT_EQ(verdict_of(bytes), Verdict::kSealed);
  ASSERT_EQ(open(bytes), Verdict::kAccepted);
  Frame out, wanted;
  ASSERT_EQ(decode(arrival, out), Verdict::kAccepted);
  ASSERT_EQ(decode(plain, wanted), Verdict::kAccepted);
  out.header.key = 0, out.header.packet_number = wanted.header.packet_number;
  EXPECT_EQ(out.header, wanted.header);
  EXPECT_EQ(std::get<Data>(out.body).batch, std::get<Data>(wanted.body).batch);
  EXPECT_TRUE(std::ranges::equal(std::get<Data>(out.body).payload, std::get<Data>(wanted.body).payload));
}

TEST_F(GroupSealedFrames, ShowNothingOfWhatTheyCarry) {
  const Bytes bytes = grouped(plain);
  for (std::size_t at = kHeaderBytes; at + 8 <= plain.size(); ++at)
    EXPECT_EQ(std::ranges::search(bytes, std::span(plain).subspan(at, 8)).size(), 0u) << "at " << at;
}

TEST_F(GroupSealedFrames, AreRefusedWhenAnyBitChangedAndCountAsSeenOnlyIntact) {
  group.add(key);
  const Bytes bytes = grouped(plain);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes changed = bytes;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const Verdict verdict = open(changed);
    EXPECT_TRUE(verdict == Verdict::kForged || verdict == Verdict::kUnknownKey) << "bit " << bit;
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_NE(open(cut), Verdict::kAccepted) << "of " << size << " bytes";
  }
  Bytes intact = bytes, again = bytes;
  EXPECT_EQ(open(intact), Verdict::kAccepted);
  EXPECT_EQ(open(again), Verdict::kReplayed);
}

TEST_F(GroupSealedFrames, UnderAKeyThatWasNotGivenAreNotOpenedAndMayComeAgain) {
  Bytes bytes = grouped(plain), again = bytes;
  EXPECT_EQ(open(bytes), Verdict::kUnknownKey);
  group.add(key);
  EXPECT_EQ(open(again), Verdict::kAccepted);
}

TEST_F(SealedFrames, OfABrokenPeerAreOpenedAndThenRefused) {
  Bytes plain = encoded(sample("probe"));
  EXPECT_EQ(reopened(with_number(plain, 6, 5000, 2)), Verdict::kBadField);
  plain.resize(3000);
  EXPECT_EQ(reopened(plain), Verdict::kOversized);
  Bytes data = encoded(sample("data"));
  data[6] = data[7] = std::byte{0xff};
  EXPECT_EQ(reopened(data), Verdict::kBadField);
}

}  // namespace
}  // namespace slipstream::protocol
