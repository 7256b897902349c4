#include "node/shared_sealing.h"

#include <bit>
#include <utility>

#include "base/check.h"

namespace slipstream::node {

SharedSealing::SharedSealing(seal::RandomSource random, std::uint64_t rekey_seals)
    : random_(std::move(random)), rekey_seals_(rekey_seals) {
  random_(std::as_writable_bytes(std::span(&key_.id, 1)));
  renew();
}

void SharedSealing::renew() {
  if (++key_.id == 0) ++key_.id;
  random_(key_.root.bytes());
  former_ = std::exchange(latest_, seal::GroupSealing(key_));
  forget_pieces();
}

void SharedSealing::forget_former() { former_.reset(); }

seal::GroupSealing* SharedSealing::sealing(std::uint32_t id) {
  for (auto* each : {&latest_, &former_})
    if (*each && (*each)->id() == id) return &**each;
  return nullptr;
}

std::optional<SharedSealing::Piece> SharedSealing::seal(std::uint32_t id, std::span<const std::byte> payload) {
  CHECK(payload.size() <= kBufferBytes);
  seal::GroupSealing* const under = sealing(id);
  if (!under) return std::nullopt;
  const std::uint64_t hash = std::bit_cast<std::uintptr_t>(payload.data()) * 0x9e3779b97f4a7c15;  // Fibonacci's.
  Place& place = places_[hash >> 54];
  if (place.round == round_ && place.payload == payload.data() && place.piece.text.size() == payload.size() &&
      place.piece.seal.key == id) {
    ++shared_;
    return place.piece;
  }
  if (kBufferBytes - used_ < payload.size()) forget_pieces();
  const auto text = std::span(buffer_).subspan(used_, payload.size());
  used_ += payload.size();
  place = {round_, payload.data(), {under->seal(payload, text), text, ++number_}};
  return place.piece;
}

}  // namespace slipstream::node
