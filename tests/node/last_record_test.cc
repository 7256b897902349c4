#include "node/last_record.h"

#include <gtest/gtest.h>

#include "wal/wal_writer.h"

namespace slipstream::node {
namespace {

constexpr ByteCount kSegment{1u << 20};
constexpr SystemId kSystemId{77};
constexpr Lsn kBegin{3u << 20};

struct Looked {
  wal::WalWriter wal{kBegin, kSegment, kSystemId};

  // What is found for `position`, from `begin` on, when the bytes come in pieces up to `sent`.
  std::optional<Lsn> found(Lsn begin, Lsn position, Lsn sent, std::uint64_t piece = 1000) {
    LastRecord last(wal::SegmentLayout(kSegment), kSystemId, begin);
    last.aim(position);
    for (Lsn at = begin; at < sent;) {
      const Lsn end = std::min(sent, at + ByteCount{piece});
      last.on_bytes(wal.at({at, end}));
      at = end;
    }
    return last.end();
  }
};

TEST(LastRecord, IsTheOneThatEndsAtThePositionOrBelow) {
  Looked look;
  const Lsn first = look.wal.record(100), second = look.wal.record(20'000), third = look.wal.record(300);
  const Lsn end = look.wal.end();
  for (const std::uint64_t piece : {8, 1000, 100'000}) {
    EXPECT_EQ(look.found(first, second, end, piece), second);
    EXPECT_EQ(look.found(first, second + ByteCount{8}, end, piece), second);
    EXPECT_EQ(look.found(first, third, end, piece), third);
    EXPECT_EQ(look.found(first, Lsn{second.value - 8}, end, piece), first);
    EXPECT_EQ(look.found(first, first, end, piece), first);
  }
}

TEST(LastRecord, IsUnknownUntilTheBytesUpToThePositionWereSeen) {
  Looked look;
  const Lsn first = look.wal.record(100), second = look.wal.record(9000);
  EXPECT_EQ(look.found(first, second, Lsn{second.value - 8}), std::nullopt);
  EXPECT_EQ(look.found(first, second, first), std::nullopt);
}

TEST(LastRecord, BehindASwitchIsTheSwitchItself) {
  Looked look;
  look.wal.record(100);
  const Lsn before = look.wal.record(100), switched = look.wal.switch_segment(), segment = look.wal.end();
  const Lsn next = look.wal.record(100);
  ASSERT_EQ(segment.value % kSegment.value, 0u);
  EXPECT_EQ(look.found(before, segment, next), switched);
  EXPECT_EQ(look.found(switched, segment, segment), switched);
  EXPECT_EQ(look.found(switched, segment, next), switched);
  EXPECT_EQ(look.found(switched, next, next), next) << "a record follows in the next segment";
  EXPECT_EQ(look.found(segment, next, next), next);
}

TEST(LastRecord, BehindASwitchThatEndsAtAPageIsTheSwitchItself) {
  Looked look;
  look.wal.record(8192 - 40 - 24 - 24);
  const Lsn switched = look.wal.switch_segment();
  ASSERT_EQ(switched.value % wal::kPageBytes, 0u);
  EXPECT_EQ(look.found(switched, look.wal.end(), look.wal.end()), switched);
}

TEST(LastRecord, IsUnknownWhereItsBeginningWasNeverSeen) {
  Looked look;
  look.wal.record(100);
  look.wal.record(1'500'000);
  const Lsn long_one = look.wal.end();
  const Lsn segment{kBegin.value + kSegment.value};
  ASSERT_LT(segment, long_one);
  EXPECT_EQ(look.found(segment, long_one, long_one), std::nullopt) << "the rest of a record ends there";
  const Lsn next = look.wal.record(100);
  EXPECT_EQ(look.found(segment, next, next), next);
}

TEST(LastRecord, IsUnknownInBytesThatAreNoWal) {
  Looked look;
  const Lsn first = look.wal.record(100), second = look.wal.record(100), third = look.wal.record(100);
  look.wal.at({first, third})[30] ^= std::byte{1};
  EXPECT_EQ(look.found(first, third, third), std::nullopt);
  EXPECT_EQ(look.found(second, third, third), third);
}

TEST(LastRecord, IsLookedForAgainWhenThePositionMovesOn) {
  Looked look;
  const Lsn first = look.wal.record(100), second = look.wal.record(100), third = look.wal.record(9000);
  LastRecord last(wal::SegmentLayout(kSegment), kSystemId, first);
  last.aim(second);
  last.on_bytes(look.wal.at({first, Lsn{third.value - 800}}));
  EXPECT_EQ(last.end(), second);
  last.aim(third);
  EXPECT_EQ(last.end(), std::nullopt);
  last.on_bytes(look.wal.at({last.seen_end(), third}));
  EXPECT_EQ(last.end(), third);
  last.aim(second);
  EXPECT_EQ(last.end(), std::nullopt) << "more was seen";
  last.aim(third);
  EXPECT_EQ(last.end(), third);
}

}  // namespace
}  // namespace slipstream::node
