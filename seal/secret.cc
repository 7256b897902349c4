#include "seal/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "base/check.h"

namespace slipstream::seal {
namespace {

constexpr std::size_t kTextBytes = 44;

}  // namespace

Secret::Secret(std::span<const std::byte, kKeyBytes> bytes) { std::ranges::copy(bytes, bytes_.begin()); }

Secret Secret::random(const RandomSource& random) {
  Secret out;
  random(out.bytes_);
  return out;
}

Secret::~Secret() { wipe(bytes_); }

KeyPair key_pair_of(const Secret& secret) {
  KeyPair out{secret, {}};
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr,
                                   reinterpret_cast<const unsigned char*>(secret.bytes().data()), kKeyBytes),
      EVP_PKEY_free);
  std::size_t bytes = kKeyBytes;
  CHECK(key &&
        EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(out.public_key.data()), &bytes) == 1);
  return out;
}

std::string to_text(std::span<const std::byte, kKeyBytes> key) {
  std::array<unsigned char, kTextBytes + 1> out{};
  EVP_EncodeBlock(out.data(), reinterpret_cast<const unsigned char*>(key.data()), kKeyBytes);
  return {reinterpret_cast<const char*>(out.data()), kTextBytes};
}

std::expected<PublicKey, std::string> parse_key(std::string_view text) {
  std::array<unsigned char, kKeyBytes + 1> bytes{};  // The padding decodes to a zero.
  if (text.size() != kTextBytes)
    return std::unexpected("a key has 44 characters, this text " + std::to_string(text.size()));
  if (!text.ends_with('=') || text[kTextBytes - 2] == '=' ||
      EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()), kTextBytes) != kKeyBytes + 1)
    return std::unexpected("this is not base64");
  PublicKey out{};
  std::transform(bytes.begin(), bytes.begin() + kKeyBytes, out.begin(),
                 [](unsigned char each) { return static_cast<std::byte>(each); });
  wipe(std::as_writable_bytes(std::span(bytes)));
  return out;
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(std::span<std::byte> bytes) { OPENSSL_cleanse(bytes.data(), bytes.size()); }

}  // namespace slipstream::seal
