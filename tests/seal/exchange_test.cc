#include "seal/exchange.h"

#include <gtest/gtest.h>

#include "tests/seal/hex.h"

namespace slipstream::seal {
namespace {

class Exchanges : public testing::Test {
 protected:
  ExchangeConfig config(std::uint64_t own, std::uint64_t peer, std::uint64_t randomness) {
    return {key_pair_of(Secret::random(counting_source(own))),
            key_pair_of(Secret::random(counting_source(peer))).public_key,
            cluster_key,
            {"p", NodeId{1}},
            {"a", NodeId{2}},
            kRekeyPackets,
            counting_source(randomness)};
  }
  std::expected<Responder::Accepted, Responder::Refusal> opened() {
    const auto cookie = responder.on_request(initiator.request(now), now);
    return responder.on_open(*initiator.on_cookie(*cookie), now);
  }
  static void expect_agreed(Session& a, Session& b) {
    for (auto [from, to] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      std::vector<std::byte> text(16, std::byte{3});
      const auto stamp = from->sealing.next();
      const Tag tag = from->sealing.seal(stamp, {}, text, {}, text);
      EXPECT_EQ(to->opening.open(stamp.key, stamp.packet_number, {}, text, tag), Opening::Outcome::kOpened);
      EXPECT_EQ(text, std::vector<std::byte>(16, std::byte{3}));
    }
  }

  Instant now{1'000'000'000};
  Secret cluster_key = Secret::random(counting_source(99));
  Initiator initiator{config(1, 2, 11)};
  Responder responder{config(2, 1, 22)};
};

TEST_F(Exchanges, AgreeOnKeys) {
  auto accepted = opened();
  ASSERT_TRUE(accepted && accepted->session);
  auto session = initiator.on_reply(accepted->reply);
  ASSERT_TRUE(session);
  expect_agreed(*session, *accepted->session);
}

TEST_F(Exchanges, SurviveTheLossAndRepetitionOfEachMessage) {
  const KeyRequest request = initiator.request(now);
  EXPECT_EQ(initiator.request(now + milliseconds(100)), request);
  const auto cookie = responder.on_request(request, now);
  EXPECT_EQ(responder.on_request(request, now + milliseconds(100)), cookie);
  const auto open = initiator.on_cookie(*cookie);
  EXPECT_EQ(initiator.on_cookie(*cookie), open);
  auto accepted = responder.on_open(*open, now);
  const auto again = responder.on_open(*open, now);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->session) << "the one that was proposed stays";
  EXPECT_EQ(again->reply, accepted->reply);
  auto session = initiator.on_reply(again->reply);
  ASSERT_TRUE(session);
  EXPECT_FALSE(initiator.on_reply(again->reply));
  expect_agreed(*session, *accepted->session);
}

TEST_F(Exchanges, BeginAnewWhenNobodyAnswersForLong) {
  const KeyRequest request = initiator.request(now);
  EXPECT_NE(initiator.request(now + seconds(6)), request);
}

TEST_F(Exchanges, NeedACookieOfTheirOwn) {
  const auto cookie = responder.on_request(initiator.request(now), now);
  KeyOpen open = *initiator.on_cookie(*cookie);
  open.cookie[0] ^= std::byte{1};
  EXPECT_EQ(responder.on_open(open, now).error(), Responder::Refusal::kBadCookie);
  open.cookie[0] ^= std::byte{1};
  EXPECT_TRUE(responder.on_open(open, now + seconds(59)));
  Responder restarted{config(2, 1, 23)};
  EXPECT_EQ(restarted.on_open(open, now).error(), Responder::Refusal::kBadCookie);
  (void)responder.on_request(initiator.request(now), now + seconds(61));
  EXPECT_TRUE(responder.on_open(open, now + seconds(62))) << "the secret before is good for a while";
  EXPECT_EQ(responder.on_open(open, now + seconds(125)).error(), Responder::Refusal::kBadCookie);
}

TEST_F(Exchanges, CannotBeReplayedOnceASessionIsInUse) {
  const KeyRequest request = initiator.request(now);
  const auto cookie = responder.on_request(request, now);
  const auto open = initiator.on_cookie(*cookie);
  ASSERT_TRUE(responder.on_open(*open, now));
  responder.on_confirmed();
  EXPECT_EQ(responder.on_open(*open, now).error(), Responder::Refusal::kBadCookie);
}

TEST_F(Exchanges, TurnAwayWhoLacksAKey) {
  KeyRequest request = initiator.request(now);
  request.mac[3] ^= std::byte{1};
  EXPECT_FALSE(responder.on_request(request, now));
  request = initiator.request(now);
  KeyCookie cookie = *responder.on_request(request, now);
  cookie.cookie[3] ^= std::byte{1};
  EXPECT_FALSE(initiator.on_cookie(cookie)) << "a forged cookie would cost an attempt";

  Initiator impostor{config(3, 2, 33)};  // Has the cluster key, but another host's own.
  const auto given = responder.on_request(impostor.request(now), now);
  ASSERT_TRUE(given);
  EXPECT_EQ(responder.on_open(*impostor.on_cookie(*given), now).error(), Responder::Refusal::kNotThePeer);

  ExchangeConfig renamed = config(1, 2, 44);
  renamed.responder.name = "b";
  Initiator to_another{renamed};
  const auto other = responder.on_request(to_another.request(now), now);
  EXPECT_EQ(responder.on_open(*to_another.on_cookie(*other), now).error(), Responder::Refusal::kNotThePeer);
}

TEST_F(Exchanges, AreNotSpoiltByForgedReplies) {
  auto accepted = opened();
  KeyReply forged = accepted->reply;
  forged.message[50] ^= std::byte{1};
  EXPECT_FALSE(initiator.on_reply(forged));
  EXPECT_TRUE(initiator.on_reply(accepted->reply));
}

}  // namespace
}  // namespace slipstream::seal
