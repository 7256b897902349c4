#include "seal/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "base/check.h"

namespace slipstream::seal {
namespace {

constexpr std::size_t kPartsMax = 256;

}  // namespace

Hash sha256(Parts parts) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  CHECK(context && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1);
  for (const auto part : parts) CHECK(EVP_DigestUpdate(context, part.data(), part.size()) == 1);
  Hash out{};
  CHECK(EVP_DigestFinal_ex(context, reinterpret_cast<unsigned char*>(out.data()), nullptr) == 1);
  EVP_MD_CTX_free(context);
  return out;
}

Hash hmac_sha256(std::span<const std::byte> key, Parts parts) {
  std::array<std::byte, kPartsMax> message;
  std::size_t bytes = 0;
  for (const auto part : parts) {
    CHECK(bytes + part.size() <= message.size());
    std::ranges::copy(part, message.begin() + static_cast<std::ptrdiff_t>(bytes));
    bytes += part.size();
  }
  Hash out{};
  unsigned out_bytes = 0;
  CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(message.data()), bytes,
             reinterpret_cast<unsigned char*>(out.data()), &out_bytes) != nullptr);
  wipe(message);
  return out;
}

void expand(const Secret& secret, std::string_view label, std::span<std::byte> out) {
  Hash block{};
  CHECK(out.size() <= 2 * block.size());
  std::byte counter{1};
  for (std::size_t at = 0; at < out.size(); counter = std::byte{2}) {
    const auto before = std::span<const std::byte>(block).first(at == 0 ? 0 : block.size());
    block = hmac_sha256(secret.bytes(), {before, as_bytes(label), {&counter, 1}});
    const std::size_t bytes = std::min(block.size(), out.size() - at);
    std::copy_n(block.begin(), bytes, out.begin() + static_cast<std::ptrdiff_t>(at));
    at += bytes;
  }
  wipe(block);
}

}  // namespace slipstream::seal
