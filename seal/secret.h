#pragma once

#include <array>
#include <cstddef>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace slipstream::seal {

constexpr std::size_t kKeyBytes = 32;
using PublicKey = std::array<std::byte, kKeyBytes>;  // X25519 (RFC 7748)

// Fills with random bytes: handed in, since this library has no source of its own.
using RandomSource = std::function<void(std::span<std::byte>)>;

// 32 secret bytes, wiped when they go.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::span<const std::byte, kKeyBytes> bytes);
  static Secret random(const RandomSource& random);
  ~Secret();
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;

  std::span<const std::byte, kKeyBytes> bytes() const { return bytes_; }
  std::span<std::byte, kKeyBytes> bytes() { return bytes_; }

 private:
  std::array<std::byte, kKeyBytes> bytes_{};
};

// A host's static key, or one made for a single key exchange.
struct KeyPair {
  Secret secret;
  PublicKey public_key{};
};
KeyPair key_pair_of(const Secret& secret);

// Base64 (RFC 4648), 44 characters. Errors say what is wrong with the text.
std::string to_text(std::span<const std::byte, kKeyBytes> key);
std::expected<PublicKey, std::string> parse_key(std::string_view text);

// In constant time.
bool equal(std::span<const std::byte> a, std::span<const std::byte> b);
void wipe(std::span<std::byte> bytes);

}  // namespace slipstream::seal
