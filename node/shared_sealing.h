#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "seal/group.h"

namespace slipstream::node {

// The primary's half of sealing data once for all replicas: the keys it is sealed under, and what was sealed in this
// burst, so that it serves every replica that is sent the same bytes. Nothing is kept beyond a burst, within which the
// bytes that lie somewhere do not change. A table with one place for each hash (pieces that meet are sealed again) and
// a buffer for what they became; nothing is allocated once it is made.
class SharedSealing {
 public:
  // A key is spent after `rekey_seals`.
  SharedSealing(seal::RandomSource random, std::uint64_t rekey_seals);

  void end_burst() { forget_pieces(); }

  const seal::GroupKey& key() const { return key_; }  // The latest.
  bool is_spent() const { return latest_->sealed() >= rekey_seals_; }
  void renew();          // The key before stays in use for those who do not hold the new one yet,
  void forget_former();  // until here.

  struct Piece {
    seal::GroupSeal seal;
    std::span<const std::byte> text;  // Valid until the next seal().
    std::uint64_t number = 0;         // Of this text, no other's; from 1.
  };
  // `payload` as it was sealed under the key of this id in this burst, or is now. None: the key is not in use any more.
  std::optional<Piece> seal(std::uint32_t id, std::span<const std::byte> payload);
  std::uint64_t shared() const { return shared_; }  // How often it had been sealed before.

 private:
  static constexpr std::size_t kPlaces = 1024, kBufferBytes = 1 << 20;
  struct Place {
    std::uint64_t round = 0;
    const std::byte* payload = nullptr;
    Piece piece;
  };
  void forget_pieces() { ++round_, used_ = 0; }
  seal::GroupSealing* sealing(std::uint32_t id);

  seal::RandomSource random_;
  std::uint64_t rekey_seals_;
  seal::GroupKey key_;
  std::optional<seal::GroupSealing> latest_, former_;
  std::vector<Place> places_{kPlaces};
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kBufferBytes);
  std::uint64_t round_ = 1;
  std::size_t used_ = 0;  // Of the buffer.
  std::uint64_t number_ = 0;
  std::uint64_t shared_ = 0;
};

}  // namespace slipstream::node
