#include "protocol/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/protocol/samples.h"

namespace slipstream::protocol {
namespace {

template <class T>
T decoded(const Bytes& frame) {
  Frame out;
  EXPECT_EQ(decode(frame, out), Verdict::kAccepted);
  return std::get<T>(out.body);
}

template <class T>
Bytes encoded_body(const std::string& like, const T& body) {
  Sample made = sample(like);
  made.body = body;
  return encoded(made);
}

TEST(Frame, OfEveryKindIsReadAsItWasWritten) {
  for (const Sample& made : samples()) {
    Frame out;
    const Bytes frame = encoded(made);
    ASSERT_EQ(decode(frame, out), Verdict::kAccepted) << made.name;
    EXPECT_EQ(out.header, made.header) << made.name;
    ASSERT_EQ(out.body.index(), made.body.index()) << made.name;
    std::visit(
        [&]<class T>(const T& body) {
          const T& read = std::get<T>(out.body);
          if constexpr (std::same_as<T, Data>) {
            EXPECT_EQ(read.batch, body.batch);
            EXPECT_TRUE(std::ranges::equal(read.payload, body.payload));
          } else {
            EXPECT_TRUE(read == body) << made.name;
          }
        },
        made.body);
  }
}

TEST(Frame, IsRefusedWhenCutAtAnyLength) {
  for (const Sample& made : samples()) {
    const Bytes frame = encoded(made);
    for (std::size_t bytes = 0; bytes < frame.size(); ++bytes)
      ASSERT_EQ(verdict_of(std::span(frame).first(bytes)), Verdict::kTruncated) << made.name << " at " << bytes;
  }
}

TEST(Frame, IsRefusedWhenLongerThanItSays) {
  for (const Sample& made : samples()) {
    Bytes frame = encoded(made);
    frame.push_back(std::byte{0});
    EXPECT_EQ(verdict_of(frame), Verdict::kOversized) << made.name;
  }
  EXPECT_EQ(verdict_of(Bytes(kFrameBytesMax + 1)), Verdict::kOversized);
}

TEST(Frame, IsRefusedWithAnySingleBitFlippedOutsideAPayload) {
  for (const Sample& made : samples()) {
    Bytes frame = encoded(made);
    const std::size_t covered = made.name == "data"         ? kDataHeaderBytes
                                : made.name == "path_probe" ? kPathProbeHeaderBytes
                                                            : frame.size();
    for (std::size_t bit = 0; bit < covered * 8; ++bit) {
      frame[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      ASSERT_NE(verdict_of(frame), Verdict::kAccepted) << made.name << ", bit " << bit;
      frame[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
  }
}

TEST(Frame, OfAnotherMagicVersionOrWithReservedBitsIsRefusedByName) {
  const Bytes probe = encoded(sample("probe"));
  EXPECT_EQ(verdict_of(with_number(probe, 0, 0x4c54, 2)), Verdict::kMagic);
  EXPECT_EQ(verdict_of(with_number(probe, 2, 2, 1)), Verdict::kVersion);
  EXPECT_EQ(verdict_of(with_number(probe, 2, 0, 1)), Verdict::kVersion);
  for (int bit = 0; bit < 15; ++bit)
    EXPECT_EQ(verdict_of(with_number(probe, 4, 1u << bit, 2)), Verdict::kReservedBits) << "flag " << bit;
  EXPECT_EQ(verdict_of(with_number(probe, 4, kMustUnderstand, 2)), Verdict::kAccepted);
  EXPECT_EQ(verdict_of(with_number(probe, 32, 1, 4)), Verdict::kSealed);
  EXPECT_EQ(verdict_of(with_number(probe, 36, 1, 4)), Verdict::kReservedBits) << "beside the key";
  EXPECT_EQ(verdict_of(with_number(probe, 64, 1, 8)), Verdict::kReservedBits) << "position of a control frame";
  EXPECT_EQ(verdict_of(with_number(encoded(sample("data")), 124, 1, 4)), Verdict::kReservedBits) << "batch";
  EXPECT_EQ(verdict_of(with_number(probe, 96, 0, 1)), Verdict::kAccepted) << "the tag is made anew by this helper";
  Bytes damaged = probe;
  damaged[96] ^= std::byte{1};
  EXPECT_EQ(verdict_of(damaged), Verdict::kChecksum);
}

TEST(Frame, OfALaterVersionMayHaveALongerHeader) {
  const auto longer = [](const std::string& name, std::size_t header_bytes) {
    Bytes frame = encoded(sample(name));
    frame.insert(frame.begin() + static_cast<std::ptrdiff_t>(header_bytes), 8, std::byte{0xee});
    return with_number(frame, 6, header_bytes + 8, 2);
  };
  EXPECT_EQ(decoded<Probe>(longer("probe", kHeaderBytes)), std::get<Probe>(sample("probe").body));
  const Bytes frame = longer("data", kDataHeaderBytes);
  const Data data = decoded<Data>(frame);
  EXPECT_EQ(data.batch, std::get<Data>(sample("data").body).batch);
  EXPECT_EQ(data.payload.data(), frame.data() + kDataHeaderBytes + 8);
  EXPECT_EQ(data.payload.size(), 100u);
  const Bytes probe = encoded(sample("probe"));
  EXPECT_EQ(verdict_of(with_number(probe, 6, kHeaderBytes - 1, 2)), Verdict::kBadField);
  EXPECT_EQ(verdict_of(with_number(probe, 6, kHeaderBytesMax + 1, 2)), Verdict::kBadField);
  EXPECT_EQ(verdict_of(with_number(encoded(sample("data")), 6, kHeaderBytes, 2)), Verdict::kBadField);
}

TEST(Frame, OfAnUnknownKindIsSkippedUnlessItMustBeUnderstood) {
  const Bytes probe = encoded(sample("probe"));
  for (const int kind : {0, 12, 13, 14, 25, 255}) {
    const Bytes unknown = with_number(probe, 3, static_cast<std::uint64_t>(kind), 1);
    EXPECT_EQ(verdict_of(unknown), Verdict::kSkipped) << kind;
    EXPECT_EQ(verdict_of(with_number(unknown, 4, kMustUnderstand, 2)), Verdict::kUnknownKind) << kind;
  }
}

TEST(Frame, ThatCutsALogSaysByItselfThatItMustBeUnderstood) {
  Sample made = sample("cut");
  made.header.flags = 0;
  Frame out;
  const Bytes frame = encoded(made);
  ASSERT_EQ(decode(frame, out), Verdict::kAccepted);
  EXPECT_EQ(out.header.flags, kMustUnderstand);
}

TEST(Frame, OfAPathProbeIsAsLongAsItSays) {
  Sample made = sample("path_probe");
  for (const std::uint32_t bytes : {121u, 1472u, 8972u, 65507u}) {
    made.body = PathProbe{7, bytes};
    EXPECT_EQ(decoded<PathProbe>(encoded(made)), (PathProbe{7, bytes}));
  }
  for (const std::uint32_t bytes : {0u, 120u, 201u})
    EXPECT_EQ(verdict_of(with_number(encoded(sample("path_probe")), 116, bytes, 4)), Verdict::kBadField) << bytes;
  made.body = PathProbe{7, 1440};
  Bytes longer = encoded(made);
  longer.resize(longer.size() + 32);
  lengthen_path_probe(std::span(longer).first(kPathProbeHeaderBytes), 32);
  EXPECT_EQ(decoded<PathProbe>(longer), (PathProbe{7, 1440})) << "longer, as data is where it is sealed for a group";
}

TEST(Frame, OfControlIsNotLongerThanFitsAnyMtu) {
  const Bytes frame =
      with_body(with_number(encoded(sample("probe")), 3, 99, 1), Bytes(kControlBytesMax - kHeaderBytes));
  EXPECT_EQ(verdict_of(frame), Verdict::kSkipped);
  EXPECT_EQ(verdict_of(with_body(frame, Bytes(kControlBytesMax - kHeaderBytes + 1))), Verdict::kOversized);
}

// ---- Data

struct BadData {
  const char* why;
  std::uint64_t begin, bytes, position;
};

TEST(DataFrame, IsRefusedWhenItsRangesAreEmptyWrapOrLeaveTheirPlace) {
  const Bytes frame = encoded(sample("data"));  // 100 bytes of payload.
  const BadData cases[] = {
      {"an empty batch", 0x1000, 0, 0x1000},
      {"a batch longer than batches are", 0x100000, kBatchBytesMax + 1, 0x100000},
      {"a batch across a multiple of 1 MiB", 0x1fff00, 0x101, 0x1fff00},
      {"a batch that wraps", 0xffffffffffffff00, 0x100, 0xffffffffffffff00},
      {"a batch that wraps far", 0xffffffffffffff00, 0x1000, 0xffffffffffffff00},
      {"a payload before its batch", 0x1000, 0x1000, 0xfff},
      {"a payload that ends behind its batch", 0x1000, 0x1000, 0x2000 - 99},
      {"a payload behind its batch", 0x1000, 0x1000, 0x2000},
      {"a payload longer than its batch", 0x1000, 99, 0x1000},
      {"a payload that wraps", 0x1000, 0x1000, 0xfffffffffffffff0},
  };
  const auto made = [&](const BadData& each) {
    const Bytes at = with_number(frame, 64, each.position, 8);
    return with(at, 112, joined({number(each.begin, 8), number(each.bytes, 4)}));
  };
  for (const BadData& each : cases) EXPECT_EQ(verdict_of(made(each)), Verdict::kBadRange) << each.why;
  for (const BadData& each : {BadData{"a whole MiB's last 128 KiB", 0x1e0000, kBatchBytesMax, 0x1fff9c},
                              BadData{"exactly its batch", 0x1000, 100, 0x1000}})
    EXPECT_EQ(verdict_of(made(each)), Verdict::kAccepted) << each.why;
}

TEST(DataFrame, WithoutPayloadIsRefused) {
  Bytes frame = encoded(sample("data"));
  frame.resize(kDataHeaderBytes);
  EXPECT_EQ(verdict_of(with_number(frame, 60, 0, 4)), Verdict::kBadRange);
}

// ---- Bodies

TEST(ControlFrame, IsRefusedWhenItsBodyIsCutAnywhere) {
  for (const Sample& made : samples()) {
    // These may end after their fixed fields: below.
    if (made.name == "data" || made.name == "ack" || made.name == "policy_not_held") continue;
    const Bytes frame = encoded(made), body = body_of(frame);
    for (std::size_t bytes = 0; bytes < body.size(); ++bytes) {
      const Verdict verdict =
          verdict_of(with_body(frame, Bytes(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(bytes))));
      ASSERT_NE(verdict, Verdict::kAccepted) << made.name << " at " << bytes;
    }
  }
}

TEST(ControlFrame, TakesTaggedExtrasOfLaterVersionsOnEveryBody) {
  const Bytes extra = joined({number(0x7001, 2), number(3, 2), Bytes(3, std::byte{9})});
  const Bytes important = joined({number(0xf002, 2), number(0, 2)});
  for (const Sample& made : samples()) {
    if (made.name == "data" || made.name == "path_probe" || made.name == "digest_reply") continue;
    const Bytes frame = encoded(made), body = body_of(frame);
    const Bytes more = with_body(frame, joined({body, extra}));
    Frame out;
    EXPECT_EQ(decode(more, out), Verdict::kAccepted) << made.name;
    EXPECT_EQ(verdict_of(with_body(frame, joined({body, extra, important}))), Verdict::kUnknownKind) << made.name;
    EXPECT_EQ(verdict_of(with_body(frame, joined({body, extra, extra}))), Verdict::kBadField)
        << made.name << ": a tag twice";
    EXPECT_EQ(verdict_of(with_body(frame, joined({body, number(0x7001, 2), number(4, 2), Bytes(3)}))),
              Verdict::kTruncated);
    EXPECT_EQ(verdict_of(with_body(frame, joined({body, Bytes(3)}))), Verdict::kTruncated) << made.name;
  }
}

TEST(AckFrame, ReadsEachExtraByItsTagAlsoWhenMarked) {
  const Bytes frame = encoded(sample("ack_plain")), body = body_of(frame);
  const auto extra = [&](std::uint16_t tag, std::uint64_t value, std::size_t bytes = 8) {
    return with_body(frame, joined({body, number(tag, 2), number(bytes, 2), number(value, bytes)}));
  };
  EXPECT_TRUE(decoded<Ack>(extra(1, 1)).standby_ready);
  EXPECT_TRUE(decoded<Ack>(extra(0x8001, 1)).standby_ready);
  EXPECT_TRUE(decoded<Ack>(extra(2, 1)).log_only);
  EXPECT_EQ(decoded<Ack>(extra(3, 77)).restart_point, Lsn{77});
  EXPECT_EQ(decoded<Ack>(extra(4, 78)).standby_xmin, 78u);
  EXPECT_EQ(decoded<Ack>(extra(5, 79)).standby_catalog_xmin, 79u);
  for (std::uint16_t tag = 1; tag <= 5; ++tag) {
    EXPECT_EQ(verdict_of(extra(tag, 0)), Verdict::kBadField) << tag;
    EXPECT_EQ(verdict_of(extra(tag, 1, 7)), Verdict::kBadField) << tag;
    EXPECT_EQ(verdict_of(extra(tag, 1, 9)), Verdict::kBadField) << tag;
  }
  EXPECT_EQ(verdict_of(extra(1, 2)), Verdict::kBadField);
  EXPECT_EQ(verdict_of(extra(2, 2)), Verdict::kBadField);
  EXPECT_EQ(verdict_of(extra(0, 0)), Verdict::kBadField) << "tag 0 is none";
}

TEST(AckFrame, IsRefusedWhenItsEndsContradictEachOther) {
  const Ack good = std::get<Ack>(sample("ack").body);
  const auto spoiled = [&](auto spoil) {
    Ack ack = good;
    spoil(ack);
    return verdict_of(encoded_body("ack", ack));
  };
  EXPECT_EQ(spoiled([](Ack&) {}), Verdict::kAccepted);
  EXPECT_EQ(spoiled([](Ack& a) { a.durable_end = a.received_end + ByteCount{1}; }), Verdict::kBadAck);
  EXPECT_EQ(spoiled([](Ack& a) { a.final_end = a.durable_end + ByteCount{1}; }), Verdict::kBadAck);
  EXPECT_EQ(spoiled([](Ack& a) { a.applied_end = a.durable_end + ByteCount{1}; }), Verdict::kBadAck);
  EXPECT_EQ(spoiled([](Ack& a) { a.window_end = Lsn{a.received_end.value - 1}; }), Verdict::kBadRange);
  EXPECT_EQ(spoiled([](Ack& a) { a.missing[0].begin = Lsn{a.received_end.value - 1}; }), Verdict::kBadRange);
  EXPECT_EQ(spoiled([](Ack& a) { a.missing[7].end = a.missing[7].begin; }), Verdict::kBadRange) << "empty";
  EXPECT_EQ(spoiled([](Ack& a) { std::swap(a.missing[7].begin, a.missing[7].end); }), Verdict::kBadRange) << "wraps";
  EXPECT_EQ(spoiled([](Ack& a) { std::swap(a.missing[7], a.missing[8]); }), Verdict::kBadRange) << "not rising";
  EXPECT_EQ(spoiled([](Ack& a) { a.missing[7].end = a.missing[8].end; }), Verdict::kBadRange) << "overlapping";
  const Bytes frame = encoded(sample("ack"));
  EXPECT_NE(verdict_of(with_number(frame, kHeaderBytes + 80, kMissingMax + 1, 2)), Verdict::kAccepted);
  EXPECT_NE(verdict_of(with_number(frame, kHeaderBytes + 80, 0xffff, 2)), Verdict::kAccepted);
}

TEST(ControlFrame, IsRefusedForEachFieldOutOfItsRange) {
  const auto refused = [](const std::string& name, std::size_t body_at, std::uint64_t value, std::size_t bytes) {
    return verdict_of(with_number(encoded(sample(name)), kHeaderBytes + body_at, value, bytes)) == Verdict::kBadField;
  };
  EXPECT_TRUE(refused("probe", 8, 2, 1)) << "a boolean is 0 or 1";
  EXPECT_TRUE(refused("refuse", 0, 0, 1)) << "no reason";
  EXPECT_TRUE(refused("refuse", 0, 14, 1)) << "a reason that is none";
  EXPECT_TRUE(refused("refuse", 1 + 8 + 16, kTextBytesMax + 1, 2)) << "text";
  EXPECT_TRUE(refused("bye", 0, kTextBytesMax + 1, 2)) << "text";
  EXPECT_TRUE(refused("hello", 16, kNameBytesMax + 1, 2)) << "name";
  EXPECT_TRUE(refused("hello", 18, '\n', 1)) << "a name that does not print";
  EXPECT_TRUE(refused("hello", 18 + 7, 0, 1)) << "version 0";
  EXPECT_TRUE(refused("hello", 18 + 7, 4, 1)) << "versions that fall";
  EXPECT_TRUE(refused("hello", 18 + 7 + 6, (16u << 20) + 1, 8)) << "a segment size that is no power of two";
  EXPECT_TRUE(refused("hello", 18 + 7 + 6, 1u << 19, 8)) << "a segment size too small";
  EXPECT_TRUE(refused("hello", 18 + 7 + 6, std::uint64_t{1} << 31, 8)) << "a segment size too large";
  EXPECT_TRUE(refused("history", 0, 1, 4)) << "timeline 1 has no history";
  EXPECT_TRUE(refused("history", 4, kHistoryBytesMax + 1, 4)) << "a history that long";
  EXPECT_TRUE(refused("history", 12, kHistoryPieceBytesMax + 1, 2)) << "a piece that long";
  EXPECT_TRUE(refused("policy", 8, kPolicyTextBytesMax + 1, 2)) << "policy text";
  EXPECT_TRUE(refused("digest_reply", 0, kDigestsMax + 1, 2)) << "digests";
}

TEST(ControlFrame, IsRefusedForRangesThatWrapAreEmptyOrLeaveTheirPlace) {
  EXPECT_EQ(verdict_of(encoded_body("digest_request", DigestRequest{{Lsn{5}, Lsn{5}}})), Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("digest_request", DigestRequest{{Lsn{5}, Lsn{4}}})), Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("digest_reply", DigestReply{})), Verdict::kBadField);
  const RangeDigest one{{Lsn{0}, Lsn{kDigestBlock}}, {}}, two{{Lsn{kDigestBlock}, Lsn{2 * kDigestBlock}}, {}};
  EXPECT_EQ(verdict_of(encoded_body("digest_reply", DigestReply{{one, two}})), Verdict::kAccepted);
  EXPECT_EQ(verdict_of(encoded_body("digest_reply", DigestReply{{two, one}})), Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("digest_reply", DigestReply{{one, one}})), Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("digest_reply", DigestReply{{{{Lsn{1}, Lsn{kDigestBlock + 1}}, {}}}})),
            Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("cut", Cut{Lsn{5}, Lsn{6}})), Verdict::kAccepted);
  EXPECT_EQ(verdict_of(encoded_body("cut", Cut{Lsn{5}, Lsn{5}})), Verdict::kBadRange);
  EXPECT_EQ(verdict_of(encoded_body("cut", Cut{Lsn{5}, Lsn{4}})), Verdict::kBadRange);
  const History history = std::get<History>(sample("history").body);
  const auto piece = [&](std::uint32_t total, std::uint32_t offset) {
    return verdict_of(encoded_body("history", History{history.timeline, total, offset, history.piece}));
  };
  EXPECT_EQ(piece(41, 1), Verdict::kBadRange);
  EXPECT_EQ(piece(41, 42), Verdict::kBadRange);
  EXPECT_EQ(piece(41, 0xffffffff), Verdict::kBadRange);
  EXPECT_EQ(piece(42, 1), Verdict::kAccepted);
  const Welcome good = std::get<Welcome>(sample("welcome").body);
  const auto spoiled = [&](Lsn Welcome::* field, Lsn value) {
    Welcome welcome = good;
    welcome.*field = value;
    return verdict_of(encoded_body("welcome", welcome));
  };
  const Lsn above = good.durable_end + ByteCount{1};
  EXPECT_EQ(spoiled(&Welcome::log_begin, above), Verdict::kBadRange);
  EXPECT_EQ(spoiled(&Welcome::final_end, above), Verdict::kBadRange);
  EXPECT_EQ(spoiled(&Welcome::applied_end, above), Verdict::kBadRange);
  EXPECT_EQ(spoiled(&Welcome::window_end, Lsn{good.durable_end.value - 1}), Verdict::kBadRange);
}

TEST(ControlFrame, WithoutAnIdentityLogOrMemberNumberIsRefused) {
  Hello hello = std::get<Hello>(sample("hello").body);
  hello.identity = {};
  EXPECT_EQ(verdict_of(encoded_body("hello", hello)), Verdict::kBadField);
  Welcome welcome = std::get<Welcome>(sample("welcome").body);
  welcome.log_id = {};
  EXPECT_EQ(verdict_of(encoded_body("welcome", welcome)), Verdict::kBadField);
  PolicyUpdate policy = std::get<PolicyUpdate>(sample("policy").body);
  policy.members[1].id = {};
  EXPECT_EQ(verdict_of(encoded_body("policy", policy)), Verdict::kBadField);
}

TEST(ControlFrame, TextForPeopleIsCutAtACharacter) {
  const std::string umlauts = [] {
    std::string out;
    while (out.size() < kTextBytesMax + 100) out += "\xc3\xbc";
    return "x" + out;
  }();
  const auto refuse = decoded<Refuse>(encoded_body("refuse", Refuse{RefuseReason::kDirectory, {}, {}, umlauts}));
  EXPECT_EQ(refuse.text, umlauts.substr(0, kTextBytesMax - 1));
  EXPECT_EQ(decoded<Bye>(encoded_body("bye", Bye{std::string(kTextBytesMax, 'y') + "z"})).text,
            std::string(kTextBytesMax, 'y'));
}

TEST(PolicyFrame, FitsOrDoesNotAsFitsSays) {
  PolicyUpdate update{1, std::string(kPolicyTextBytesMax, 'p'), {}};
  for (std::uint16_t i = 1; i <= kMembersMax; ++i)
    update.members.push_back({std::string(15, 'n'), NodeId{i}, {{1, i}}});
  ASSERT_TRUE(fits(update));
  EXPECT_EQ(decoded<PolicyUpdate>(encoded_body("policy", update)), update);
  PolicyUpdate more = update;
  more.not_held = {{Lsn{1}, Lsn{2}}};
  ASSERT_TRUE(fits(more));
  EXPECT_EQ(decoded<PolicyUpdate>(encoded_body("policy", more)), more);
  more.not_held.push_back({Lsn{3}, Lsn{4}});
  EXPECT_FALSE(fits(more));
  more = update;
  more.text += "p";
  EXPECT_FALSE(fits(more));
  more = update;
  more.members.push_back(more.members.front());
  EXPECT_FALSE(fits(more));
  more = update;
  more.members[3].name = std::string(kNameBytesMax, 'n');
  EXPECT_FALSE(fits(more)) << "too long as a whole";
  more.text.resize(600);
  EXPECT_TRUE(fits(more));
  EXPECT_EQ(decoded<PolicyUpdate>(encoded_body("policy", more)), more);
  more.members[3].name += "n";
  EXPECT_FALSE(fits(more));
  more.members[3].name.clear();
  EXPECT_FALSE(fits(more));
}

TEST(PolicyFrame, TellsWhatIsNotHeldToThoseOnlyWhoUnderstandIt) {
  const Bytes plain = encoded(sample("policy")), marked = encoded(sample("policy_not_held"));
  const Bytes body = body_of(marked);
  const std::size_t at = body_of(plain).size();
  ASSERT_GT(body.size(), at + 4);
  EXPECT_EQ(body[at + 1], std::byte{0x80}) << "an older reader must refuse the frame";
  for (std::size_t bytes = at + 1; bytes < body.size(); ++bytes) {
    const Bytes cut(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(bytes));
    ASSERT_NE(verdict_of(with_body(marked, cut)), Verdict::kAccepted) << bytes;
  }
  const auto with_ranges = [&](const std::vector<std::uint64_t>& positions) {
    Bytes made = body_of(plain);
    for (const Bytes& part : {number(0x8001, 2), number(8 * positions.size(), 2)})
      made.insert(made.end(), part.begin(), part.end());
    for (const std::uint64_t each : positions) {
      const Bytes part = number(each, 8);
      made.insert(made.end(), part.begin(), part.end());
    }
    return verdict_of(with_body(plain, made));
  };
  EXPECT_EQ(with_ranges({0, 5, 5, 9}), Verdict::kAccepted);
  EXPECT_EQ(with_ranges({}), Verdict::kBadField);
  EXPECT_EQ(with_ranges({1, 5, 9}), Verdict::kBadField);
  EXPECT_EQ(with_ranges({5, 5}), Verdict::kBadRange);
  EXPECT_EQ(with_ranges({1, 5, 4, 9}), Verdict::kBadRange);
  std::vector<std::uint64_t> nine;
  for (std::uint64_t i = 0; i < 18; ++i) nine.push_back(i);
  EXPECT_EQ(with_ranges(nine), Verdict::kBadField);
}

TEST(Frame, OfRandomBytesIsRefusedAndOfRandomBodiesNeverHarms) {
  std::mt19937_64 random(1);
  std::vector<Bytes> frames;
  for (const Sample& made : samples()) frames.push_back(encoded(made));
  int accepted = 0;
  for (int turn = 0; turn < 20000; ++turn) {
    Bytes frame = frames[random() % frames.size()];
    const std::size_t from = kHeaderBytes + random() % (frame.size() - kHeaderBytes);
    const Bytes few = number(random(), std::min<std::size_t>(1 + random() % 8, frame.size() - from));
    accepted += verdict_of(with(frame, from, few)) == Verdict::kAccepted;
    Bytes noise(random() % 300);
    for (std::byte& each : noise) each = static_cast<std::byte>(random());
    ASSERT_NE(verdict_of(noise), Verdict::kAccepted);
  }
  EXPECT_GT(accepted, 0);
}

TEST(Verdict, HasANameForEach) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kVerdicts; ++i) names.push_back(to_string(static_cast<Verdict>(i)));
  std::ranges::sort(names);
  EXPECT_TRUE(std::ranges::adjacent_find(names) == names.end());
  EXPECT_EQ(to_string(Verdict::kUnexpected), "unexpected");
}

}  // namespace
}  // namespace slipstream::protocol
