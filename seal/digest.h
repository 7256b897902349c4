#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string_view>

#include "seal/secret.h"

namespace slipstream::seal {

using Hash = std::array<std::byte, 32>;
using Parts = std::initializer_list<std::span<const std::byte>>;

Hash sha256(Parts parts);
Hash hmac_sha256(std::span<const std::byte> key, Parts parts);  // At most 256 bytes in all.
// HKDF-Expand (RFC 5869) for up to 64 bytes, from a secret that is random already.
void expand(const Secret& secret, std::string_view label, std::span<std::byte> out);

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace slipstream::seal
