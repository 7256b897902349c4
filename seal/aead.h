#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "seal/secret.h"

namespace slipstream::seal {

constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kNonceBytes = 12;
using Tag = std::array<std::byte, kTagBytes>;
using Nonce = std::array<std::byte, kNonceBytes>;

// AES-256-GCM (NIST SP 800-38D) under one key: by libipsec-mb where the CPU has AES and carry-less multiplication, by
// OpenSSL elsewhere. Both give the same bytes. No nonce may be used twice: that is the caller's business.
// Threading: one thread. Allocates when made. The key is wiped when it goes.
class Aead {
 public:
  enum class Backend : std::uint8_t { kBest, kOpenSsl };
  explicit Aead(const Secret& key, Backend backend = Backend::kBest);
  ~Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;

  // Writes `first` and then `second`, enciphered, to `out` (as long as both; may be where `first` is, if `second` is
  // empty). Authenticates `header` too.
  Tag seal(const Nonce& nonce, std::span<const std::byte> header, std::span<const std::byte> first,
           std::span<const std::byte> second, std::span<std::byte> out);
  // Deciphers `text` in its place. False: not what was sealed; `text` is garbage then.
  [[nodiscard]] bool open(const Nonce& nonce, std::span<const std::byte> header, std::span<std::byte> text,
                          std::span<const std::byte, kTagBytes> tag);

  static bool is_accelerated();  // kBest is libipsec-mb.
  struct Cipher;                 // One of the two.

 private:
  std::unique_ptr<Cipher> cipher_;
};

}  // namespace slipstream::seal
