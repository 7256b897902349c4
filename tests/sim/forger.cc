#include "tests/sim/forger.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "protocol/frame.h"
#include "tests/protocol/renew_tag.h"

namespace slipstream::sim {
namespace {

struct Field {
  std::size_t at, bytes;
};
constexpr std::size_t kKindAt = 3, kStreamAt = 16, kClusterAt = 8, kSourceAt = 20, kDestinationAt = 22, kSessionAt = 24,
                      kTermAt = 48, kIncarnationAt = 52, kPositionAt = 64, kFlushedAt = 72, kConfirmedAt = 80,
                      kBatchBytesAt = 120;
constexpr std::array kFields{Field{0, 2},
                             Field{2, 1},
                             Field{kKindAt, 1},
                             Field{4, 2},
                             Field{6, 2},
                             Field{kClusterAt, 8},
                             Field{kStreamAt, 4},
                             Field{kSourceAt, 2},
                             Field{kDestinationAt, 2},
                             Field{kSessionAt, 8},
                             Field{32, 4},
                             Field{36, 4},
                             Field{40, 8},
                             Field{kTermAt, 4},
                             Field{kIncarnationAt, 4},
                             Field{56, 4},
                             Field{60, 4},
                             Field{kPositionAt, 8},
                             Field{kFlushedAt, 8},
                             Field{kConfirmedAt, 8},
                             Field{88, 8},
                             Field{96, 16}};

std::uint64_t load(const Wire& frame, Field field) {
  std::uint64_t value = 0;
  std::memcpy(&value, frame.data() + field.at, std::min<std::size_t>(field.bytes, 8));
  return value;
}

void store(Wire& frame, Field field, std::uint64_t value) {
  std::memcpy(frame.data() + field.at, &value, std::min<std::size_t>(field.bytes, 8));
}

std::uint64_t another(std::uint64_t value, Random& random) {
  switch (random.below(5)) {
    case 0:
      return value + 1;
    case 1:
      return value - 1;
    case 2:
      return value == 0 ? 1 : 0;
    case 3:
      return ~std::uint64_t{0};
    default:
      return random.next();
  }
}

}  // namespace

bool is_data(const Wire& frame) {
  return frame.size() > protocol::kDataHeaderBytes &&
         frame[kKindAt] == static_cast<std::byte>(protocol::FrameKind::kData);
}

std::uint64_t bytes_to_repeat(const Wire& frame, bool damaged) {
  if (!is_data(frame)) return 0;
  const bool sealed = load(frame, {protocol::kKeyOffset, 4}) != 0;
  return damaged && !sealed ? load(frame, {kBatchBytesAt, 4}) : frame.size() - protocol::kDataHeaderBytes;
}

SaidSession session_of(const Wire& frame) {
  if (frame.size() < protocol::kHeaderBytes) return {};
  return {{static_cast<std::uint32_t>(load(frame, {kTermAt, 4})),
           static_cast<std::uint32_t>(load(frame, {kIncarnationAt, 4}))},
          {load(frame, {kSessionAt, 8})}};
}

void damage_a_field(Wire& frame, Random& random) {
  const std::size_t covered = is_data(frame) ? protocol::kDataHeaderBytes : frame.size();
  Field field = kFields[random.below(kFields.size())];
  if (covered > protocol::kHeaderBytes && random.chance(0.4)) {
    const std::size_t at = protocol::kHeaderBytes + random.below(covered - protocol::kHeaderBytes);
    field = {at, std::min<std::size_t>(random.one_of(std::vector<std::size_t>{1, 2, 4, 8}), covered - at)};
  }
  const Wire before = frame;
  while (frame == before) store(frame, field, another(load(frame, field), random));
}

bool misdirect(Wire& frame, Random& random) {
  constexpr std::array kAddresses{Field{kClusterAt, 8}, Field{kStreamAt, 4}, Field{kSourceAt, 2},
                                  Field{kDestinationAt, 2}};
  const std::uint64_t which = random.below(7);
  // A greeting opens a session: of an older epoch, to a log that knows of none, it would be valid.
  const bool hello = frame[kKindAt] == static_cast<std::byte>(protocol::FrameKind::kHello);
  if (which >= kAddresses.size() && hello) return false;
  // A replica of another cluster refuses in its cluster's name, so that a person hears of it.
  if (which == 0 && frame[kKindAt] == static_cast<std::byte>(protocol::FrameKind::kRefuse)) return false;
  if (which < kAddresses.size())
    store(frame, kAddresses[which], load(frame, kAddresses[which]) ^ random.from_to(16, 255));
  else
    store(frame, which == 4 ? Field{kSessionAt, 8} : Field{kTermAt, 4}, 0);
  protocol::renew_tag(frame);
  return true;
}

void forge_plaintext(Wire& frame, Random& random) {
  for (const Field field : {Field{kFlushedAt, 8}, Field{kConfirmedAt, 8}, Field{kPositionAt, 8}})
    if (random.chance(0.7)) store(frame, field, load(frame, field) + random.from_to(1, 1 << 20));
  if (random.chance(0.2)) store(frame, {kTermAt, 4}, load(frame, {kTermAt, 4}) + 1);
  if (random.chance(0.2)) store(frame, {kSessionAt, 8}, load(frame, {kSessionAt, 8}) + 1);
  protocol::renew_tag(frame);
}

void forge_sealed(Wire& frame, Random& random) {
  switch (random.below(3)) {
    case 0:
      return store(frame, {protocol::kPacketNumberOffset, 8},
                   load(frame, {protocol::kPacketNumberOffset, 8}) + random.from_to(1, 1000));
    case 1:
      return store(frame, {protocol::kKeyOffset, 4}, load(frame, {protocol::kKeyOffset, 4}) ^ random.from_to(1, 255));
    default:  // A tag cut off behind its first half.
      std::fill_n(frame.begin() + protocol::kTagOffset + 8, 8, std::byte{});
  }
}

}  // namespace slipstream::sim
