#include "seal/session.h"

#include <algorithm>
#include <array>
#include <utility>

#include "seal/digest.h"

namespace slipstream::seal {

Generation::Derived Generation::derive(const Secret& root) {
  Derived out;
  std::array<std::byte, kKeyBytes + kNonceBytes> keys;
  expand(root, "slipstream key", keys);
  out.key = Secret(std::span(keys).first<kKeyBytes>());
  std::copy_n(keys.begin() + kKeyBytes, kNonceBytes, out.salt.begin());
  expand(root, "slipstream next root", out.next_root.bytes());
  wipe(keys);
  return out;
}

Generation::Generation(const Secret& root) : Generation(derive(root)) {}
Generation::Generation(const Derived& derived)
    : next_root_(derived.next_root), salt_(derived.salt), aead_(derived.key) {}

Generation Generation::next() const { return Generation(next_root_); }

Nonce Generation::nonce(std::uint64_t packet_number) const {
  Nonce out = salt_;
  for (std::size_t i = 0; i < 8; ++i) out[4 + i] ^= static_cast<std::byte>(packet_number >> (8 * i));
  return out;
}

Sealing::Sealing(const Secret& root, std::uint32_t session_id, std::uint64_t rekey_packets)
    : session_id_(session_id), rekey_packets_(rekey_packets), rekey_at_(rekey_packets), generation_(root) {}

Sealing::Stamp Sealing::next() {
  if (packet_number_ >= rekey_at_) {
    generation_ = generation_.next();
    ++number_;
    rekey_at_ += rekey_packets_;
  }
  return {key_name(session_id_, number_), packet_number_++};
}

Tag Sealing::seal(const Stamp& stamp, std::span<const std::byte> header, std::span<const std::byte> first,
                  std::span<const std::byte> second, std::span<std::byte> out) {
  return generation_.aead().seal(generation_.nonce(stamp.packet_number), header, first, second, out);
}

Opening::Opening(const Secret& root, std::uint32_t session_id) : session_id_(session_id), generation_(root) {}

Opening::Outcome Opening::verify(std::uint32_t key, std::uint64_t packet_number, std::span<const std::byte> header,
                                 std::span<std::byte> text, std::span<const std::byte, kTagBytes> tag) {
  if (key >> 8 != session_id_) return Outcome::kUnknownKey;
  if (!window_.is_new(packet_number)) return Outcome::kReplayed;
  const std::uint32_t steps = (key - number_) & 0xff;
  const bool late = steps == 0xff && before_;
  if (steps > kAheadMax && !late) return Outcome::kUnknownKey;
  if (steps > 0 && !late) return open_ahead(steps, packet_number, header, text, tag);
  Generation& used = late ? *before_ : generation_;
  return used.aead().open(used.nonce(packet_number), header, text, tag) ? Outcome::kOpened : Outcome::kForged;
}

// The sender has gone on to a later generation: so do we, once a frame proves it. What was derived for one that proved
// nothing is kept for the next: a forger costs us no more than the opening.
Opening::Outcome Opening::open_ahead(std::uint32_t steps, std::uint64_t packet_number,
                                     std::span<const std::byte> header, std::span<std::byte> text,
                                     std::span<const std::byte, kTagBytes> tag) {
  while (ahead_.size() < steps) ahead_.push_back((ahead_.empty() ? generation_ : ahead_.back()).next());
  Generation& later = ahead_[steps - 1];
  if (!later.aead().open(later.nonce(packet_number), header, text, tag)) return Outcome::kForged;
  before_ = std::move(steps == 1 ? generation_ : ahead_[steps - 2]);
  generation_ = std::move(later);
  ahead_.erase(ahead_.begin(), ahead_.begin() + steps);
  number_ += steps;
  return Outcome::kOpened;
}

}  // namespace slipstream::seal
