#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "seal/aead.h"
#include "seal/digest.h"
#include "seal/secret.h"

namespace slipstream::seal {

// A handshake of two messages between hosts that know each other's static key and share a cluster key:
// Noise_KKpsk0_25519_AESGCM_SHA256 (The Noise Protocol Framework, revision 34). Who completes it knows that the other
// has the static key it should have, the cluster key, and the same prologue.
// Each object is for one side of one handshake. A message that does not fit leaves it unusable.
class NoiseHandshake {
 public:
  enum class Side : std::uint8_t { kInitiator, kResponder };
  // The roots of what is sent from here on.
  struct Roots {
    Secret initiator_to_responder;
    Secret responder_to_initiator;
  };

  // `ephemeral` is made for this handshake alone.
  NoiseHandshake(Side side, const KeyPair& own, const PublicKey& peer, const Secret& cluster_key,
                 std::span<const std::byte> prologue, KeyPair ephemeral);
  ~NoiseHandshake();
  NoiseHandshake(const NoiseHandshake&) = default;
  NoiseHandshake& operator=(const NoiseHandshake&) = default;

  // In turn: the initiator writes the first message, the responder reads it and writes the second, the initiator reads
  // that. A message is its payload and 48 bytes more. Nothing: it was not made by that peer, or for us.
  std::vector<std::byte> write(std::span<const std::byte> payload);
  std::optional<std::vector<std::byte>> read(std::span<const std::byte> message);

  Roots roots() const;  // After both messages.
  const Hash& transcript() const { return transcript_; }

 private:
  void mix_hash(std::span<const std::byte> bytes);
  void mix_key(std::span<const std::byte> input);
  void mix_cluster_key(const Secret& key);
  void mix_ephemeral(const PublicKey& key);
  bool mix_shared_secrets();
  bool mix_shared_secret(const Secret& own, const PublicKey& peer);
  Nonce next_nonce();

  Side side_;
  KeyPair own_;
  PublicKey peer_;
  KeyPair ephemeral_;
  PublicKey peer_ephemeral_{};
  Hash transcript_{};
  Secret chain_;
  Secret key_;
  std::uint64_t nonce_ = 0;
  bool second_ = false;  // The first message is through.
};

}  // namespace slipstream::seal
