#include "seal/noise.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace slipstream::seal {
namespace {

constexpr std::string_view kName = "Noise_KKpsk0_25519_AESGCM_SHA256";
static_assert(kName.size() == 32);  // So it is the first transcript as it is.

// X25519. False for a peer's key that leads nowhere (all zeros).
bool agree(const Secret& own, const PublicKey& peer, Secret& out) {
  const auto raw = [](std::span<const std::byte> bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
  };
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  const Key secret(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, raw(own.bytes()), kKeyBytes), EVP_PKEY_free);
  const Key other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, raw(peer), kKeyBytes), EVP_PKEY_free);
  CHECK(secret && other);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(secret.get(), nullptr),
                                                                            EVP_PKEY_CTX_free);
  std::size_t bytes = kKeyBytes;
  return context && EVP_PKEY_derive_init(context.get()) == 1 &&
         EVP_PKEY_derive_set_peer(context.get(), other.get()) == 1 &&
         EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(out.bytes().data()), &bytes) == 1;
}

// Noise's HKDF: outputs of 32 bytes each from a chaining key and an input.
template <std::size_t kOutputs>
std::array<Secret, kOutputs> derive(const Secret& chain, std::span<const std::byte> input) {
  std::array<Secret, kOutputs> out;
  Hash extracted = hmac_sha256(chain.bytes(), {input});
  std::span<const std::byte> before;
  for (std::size_t i = 0; i < kOutputs; ++i) {
    const auto counter = static_cast<std::byte>(i + 1);
    Hash block = hmac_sha256(extracted, {before, {&counter, 1}});
    out[i] = Secret(block);
    wipe(block);
    before = out[i].bytes();
  }
  wipe(extracted);
  return out;
}

}  // namespace

NoiseHandshake::NoiseHandshake(Side side, const KeyPair& own, const PublicKey& peer, const Secret& cluster_key,
                               std::span<const std::byte> prologue, KeyPair ephemeral)
    : side_(side), own_(own), peer_(peer), ephemeral_(std::move(ephemeral)) {
  std::ranges::copy(as_bytes(kName), transcript_.begin());
  chain_ = Secret(transcript_);
  mix_hash(prologue);
  mix_hash(side == Side::kInitiator ? own_.public_key : peer_);
  mix_hash(side == Side::kInitiator ? peer_ : own_.public_key);
  mix_cluster_key(cluster_key);
}

NoiseHandshake::~NoiseHandshake() = default;

void NoiseHandshake::mix_hash(std::span<const std::byte> bytes) { transcript_ = sha256({transcript_, bytes}); }

void NoiseHandshake::mix_key(std::span<const std::byte> input) {
  const auto [chain, key] = derive<2>(chain_, input);
  chain_ = chain, key_ = key, nonce_ = 0;
}

void NoiseHandshake::mix_cluster_key(const Secret& cluster_key) {
  const auto [chain, hashed, key] = derive<3>(chain_, cluster_key.bytes());
  chain_ = chain;
  mix_hash(hashed.bytes());
  key_ = key, nonce_ = 0;
}

void NoiseHandshake::mix_ephemeral(const PublicKey& key) {
  mix_hash(key);
  mix_key(key);  // As patterns with a pre-shared key do.
}

bool NoiseHandshake::mix_shared_secret(const Secret& own, const PublicKey& peer) {
  Secret shared;
  if (!agree(own, peer, shared)) return false;
  mix_key(shared.bytes());
  return true;
}

// First message: es, ss. Second: ee, se.
bool NoiseHandshake::mix_shared_secrets() {
  const bool initiator = side_ == Side::kInitiator;
  if (!second_)
    return (initiator ? mix_shared_secret(ephemeral_.secret, peer_)
                      : mix_shared_secret(own_.secret, peer_ephemeral_)) &&
           mix_shared_secret(own_.secret, peer_);
  return mix_shared_secret(ephemeral_.secret, peer_ephemeral_) &&
         (initiator ? mix_shared_secret(own_.secret, peer_ephemeral_) : mix_shared_secret(ephemeral_.secret, peer_));
}

Nonce NoiseHandshake::next_nonce() {
  Nonce out{};
  for (std::size_t i = 0; i < 8; ++i) out[4 + i] = static_cast<std::byte>(nonce_ >> (8 * (7 - i)));
  ++nonce_;
  return out;
}

std::vector<std::byte> NoiseHandshake::write(std::span<const std::byte> payload) {
  mix_ephemeral(ephemeral_.public_key);
  CHECK(mix_shared_secrets());  // The peer's keys were tried before: pinned, or read from its message.
  std::vector<std::byte> out(ephemeral_.public_key.begin(), ephemeral_.public_key.end());
  out.resize(kKeyBytes + payload.size() + kTagBytes);
  const auto text = std::span(out).subspan(kKeyBytes);
  const Tag tag = Aead(key_).seal(next_nonce(), transcript_, payload, {}, text.first(payload.size()));
  std::ranges::copy(tag, text.last(kTagBytes).begin());
  mix_hash(text);
  second_ = true;
  return out;
}

std::optional<std::vector<std::byte>> NoiseHandshake::read(std::span<const std::byte> message) {
  if (message.size() < kKeyBytes + kTagBytes) return std::nullopt;
  std::ranges::copy(message.first(kKeyBytes), peer_ephemeral_.begin());
  mix_ephemeral(peer_ephemeral_);
  if (!mix_shared_secrets()) return std::nullopt;
  const auto text = message.subspan(kKeyBytes);
  const auto enciphered = text.first(text.size() - kTagBytes);
  std::vector<std::byte> payload(enciphered.begin(), enciphered.end());
  if (!Aead(key_).open(next_nonce(), transcript_, payload, text.last<kTagBytes>())) return std::nullopt;
  mix_hash(text);
  second_ = true;
  return payload;
}

NoiseHandshake::Roots NoiseHandshake::roots() const {
  const auto [there, back] = derive<2>(chain_, {});
  return {there, back};
}

}  // namespace slipstream::seal
