#include "seal/session.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/seal/hex.h"

namespace slipstream::seal {
namespace {

struct Packet {
  Sealing::Stamp stamp;
  std::vector<std::byte> text;
  Tag tag;
};

class Sessions : public testing::Test {
 protected:
  Packet next(Sealing& from) {
    Packet out{from.next(), {}, {}};
    out.text.resize(40);
    for (std::size_t i = 0; i < out.text.size(); ++i) out.text[i] = static_cast<std::byte>(out.stamp.packet_number + i);
    out.tag = from.seal(out.stamp, {}, out.text, {}, out.text);
    return out;
  }
  // Takes a copy: opening deciphers in place.
  Opening::Outcome open(Packet packet) {
    const auto outcome = opening.open(packet.stamp.key, packet.stamp.packet_number, {}, packet.text, packet.tag);
    if (outcome == Opening::Outcome::kOpened) {
      EXPECT_EQ(packet.text[1], static_cast<std::byte>(packet.stamp.packet_number + 1));
    }
    return outcome;
  }
  using enum Opening::Outcome;

  Secret root = Secret::random(counting_source(7));
  Sealing sealing{root, 0xabcdef, 10};
  Opening opening{root, 0xabcdef};
};

TEST_F(Sessions, OpenEachPacketOnceThroughManyGenerations) {
  std::set<std::uint32_t> keys;
  for (int i = 0; i < 10'000; ++i) {
    const Packet packet = next(sealing);
    keys.insert(packet.stamp.key);
    ASSERT_EQ(open(packet), kOpened) << i;
    ASSERT_EQ(open(packet), kReplayed) << i;
  }
  EXPECT_EQ(keys.size(), 256u);
}

TEST_F(Sessions, FollowASenderWhoseGenerationsWereLost) {
  for (std::uint32_t lost = 0; lost < 10 * Opening::kAheadMax - 10; ++lost) (void)next(sealing);
  EXPECT_EQ(open(next(sealing)), kOpened);
  for (std::uint32_t lost = 0; lost < 10 * Opening::kAheadMax + 10; ++lost) (void)next(sealing);
  EXPECT_EQ(open(next(sealing)), kUnknownKey) << "too far: new keys are agreed on instead";
}

TEST_F(Sessions, OpenWhatComesLateFromTheGenerationBefore) {
  const Packet early = next(sealing), older = next(sealing);
  for (int i = 2; i < 10; ++i) (void)next(sealing);
  EXPECT_EQ(open(next(sealing)), kOpened);  // The next generation's first.
  EXPECT_EQ(open(early), kOpened);
  EXPECT_EQ(open(early), kReplayed);
  for (int i = 1; i < 10; ++i) (void)next(sealing);
  EXPECT_EQ(open(next(sealing)), kOpened);  // And the one after.
  EXPECT_NE(open(older), kOpened);
}

TEST_F(Sessions, AreMovedByNothingForged) {
  const Packet first = next(sealing);
  for (std::uint32_t generation = 0; generation < 256; ++generation) {
    Packet forged = first;
    forged.stamp.key = key_name(0xabcdef, generation);
    forged.stamp.packet_number = 1'000'000'000;
    EXPECT_NE(open(forged), kOpened);
  }
  Packet other = first;
  other.stamp.key = key_name(0xabcdee, 0);
  EXPECT_EQ(open(other), kUnknownKey);
  EXPECT_EQ(open(first), kOpened);
}

TEST_F(Sessions, HaveKeysOfTheirOwn) {
  Sealing elsewhere{Secret::random(counting_source(8)), 0xabcdef, 10};
  EXPECT_EQ(open(next(elsewhere)), kForged);
  Generation generation(root), same(root), later = generation.next();
  EXPECT_EQ(generation.nonce(5), same.nonce(5));
  EXPECT_NE(generation.nonce(5), generation.nonce(6));
  EXPECT_NE(generation.nonce(5), later.nonce(5));
}

// Against a set of all numbers seen.
TEST(ReplayWindow, KnowsWhatItHasSeen) {
  ReplayWindow window;
  std::set<std::uint64_t> seen;
  std::uint64_t newest = 0, state = 5;
  const auto random = [&](std::uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t kind = random(1000);
    const std::uint64_t step = kind == 0 ? random(3 * ReplayWindow::kSize) : kind < 5 ? random(1000) : random(3);
    const std::uint64_t back = random(10) == 0 ? random(ReplayWindow::kSize + 100) : 0;
    const std::uint64_t number = newest + step - std::min(newest + step, back);
    const bool is_new =
        !seen.contains(number) && (seen.empty() || number > newest || newest - number < ReplayWindow::kSize);
    ASSERT_EQ(window.is_new(number), is_new) << number << " after " << newest;
    if (!is_new) continue;
    window.note(number);
    seen.insert(number);
    newest = std::max(newest, number);
  }
}

}  // namespace
}  // namespace slipstream::seal
