#include "seal/aead.h"

#include <intel-ipsec-mb.h>
#include <openssl/evp.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"

namespace slipstream::seal {

struct Aead::Cipher {
  virtual ~Cipher() = default;
  virtual Tag seal(const Nonce& nonce, std::span<const std::byte> header, std::span<const std::byte> first,
                   std::span<const std::byte> second, std::span<std::byte> out) = 0;
  virtual bool open(const Nonce& nonce, std::span<const std::byte> header, std::span<std::byte> text,
                    std::span<const std::byte, kTagBytes> tag) = 0;
};

namespace {

// A second piece costs some 60 ns; less are better copied behind the first.
constexpr std::size_t kCopiedBytesMax = 2048;

const unsigned char* in(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* out_of(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

// The functions for this CPU; null where it lacks AES or carry-less multiplication.
IMB_MGR* functions() {
  static IMB_MGR* const found = []() -> IMB_MGR* {
    IMB_MGR* manager = alloc_mb_mgr(0);
    if (!manager) return nullptr;
    constexpr std::uint64_t kNeeded = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    if ((manager->features & kNeeded) == kNeeded) {
      init_mb_mgr_auto(manager, nullptr);
      if (imb_get_errno(manager) == 0) return manager;
    }
    free_mb_mgr(manager);
    return nullptr;
  }();
  return found;
}

class IpsecMbCipher : public Aead::Cipher {
 public:
  explicit IpsecMbCipher(const Secret& key) { IMB_AES256_GCM_PRE(functions(), key.bytes().data(), &key_); }
  ~IpsecMbCipher() override {
    wipe(std::as_writable_bytes(std::span(&key_, 1)));
    wipe(std::as_writable_bytes(std::span(&context_, 1)));
  }

  Tag seal(const Nonce& nonce, std::span<const std::byte> header, std::span<const std::byte> first,
           std::span<const std::byte> second, std::span<std::byte> out) override {
    Tag tag{};
    IMB_MGR* const f = functions();
    if (second.size() > kCopiedBytesMax) {
      IMB_AES256_GCM_INIT(f, &key_, &context_, in(nonce), in(header), header.size());
      IMB_AES256_GCM_ENC_UPDATE(f, &key_, &context_, out_of(out), in(first), first.size());
      IMB_AES256_GCM_ENC_UPDATE(f, &key_, &context_, out_of(out.subspan(first.size())), in(second), second.size());
      IMB_AES256_GCM_ENC_FINALIZE(f, &key_, &context_, out_of(tag), tag.size());
      return tag;
    }
    std::span<const std::byte> text = first;
    if (!second.empty()) {
      copy_bytes(first, out);
      copy_bytes(second, out.subspan(first.size()));
      text = out;
    }
    IMB_AES256_GCM_ENC(f, &key_, &context_, out_of(out), in(text), text.size(), in(nonce), in(header), header.size(),
                       out_of(tag), tag.size());
    return tag;
  }

  bool open(const Nonce& nonce, std::span<const std::byte> header, std::span<std::byte> text,
            std::span<const std::byte, kTagBytes> tag) override {
    Tag found{};
    IMB_AES256_GCM_DEC(functions(), &key_, &context_, out_of(text), in(text), text.size(), in(nonce), in(header),
                       header.size(), out_of(found), found.size());
    return equal(found, tag);
  }

 private:
  alignas(64) gcm_key_data key_;
  alignas(64) gcm_context_data context_;
};

class OpenSslCipher : public Aead::Cipher {
 public:
  explicit OpenSslCipher(const Secret& key) : context_(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free) {
    CHECK(context_ && EVP_EncryptInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr, in(key.bytes()), nullptr) == 1);
  }

  Tag seal(const Nonce& nonce, std::span<const std::byte> header, std::span<const std::byte> first,
           std::span<const std::byte> second, std::span<std::byte> out) override {
    EVP_CIPHER_CTX* const c = context_.get();
    Tag tag{};
    int bytes = 0;
    CHECK(EVP_EncryptInit_ex(c, nullptr, nullptr, nullptr, in(nonce)) == 1);
    CHECK(EVP_EncryptUpdate(c, nullptr, &bytes, in(header), static_cast<int>(header.size())) == 1);
    CHECK(EVP_EncryptUpdate(c, out_of(out), &bytes, in(first), static_cast<int>(first.size())) == 1);
    if (!second.empty())
      CHECK(EVP_EncryptUpdate(c, out_of(out.subspan(first.size())), &bytes, in(second),
                              static_cast<int>(second.size())) == 1);
    CHECK(EVP_EncryptFinal_ex(c, nullptr, &bytes) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1);
    return tag;
  }

  bool open(const Nonce& nonce, std::span<const std::byte> header, std::span<std::byte> text,
            std::span<const std::byte, kTagBytes> tag) override {
    EVP_CIPHER_CTX* const c = context_.get();
    Tag wanted;
    std::ranges::copy(tag, wanted.begin());
    int bytes = 0;
    CHECK(EVP_DecryptInit_ex(c, nullptr, nullptr, nullptr, in(nonce)) == 1);
    CHECK(EVP_DecryptUpdate(c, nullptr, &bytes, in(header), static_cast<int>(header.size())) == 1);
    CHECK(EVP_DecryptUpdate(c, out_of(text), &bytes, in(text), static_cast<int>(text.size())) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, kTagBytes, wanted.data()) == 1);
    return EVP_DecryptFinal_ex(c, nullptr, &bytes) == 1;
  }

 private:
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context_;
};

}  // namespace

Aead::Aead(const Secret& key, Backend backend) {
  if (backend == Backend::kBest && is_accelerated())
    cipher_ = std::make_unique<IpsecMbCipher>(key);
  else
    cipher_ = std::make_unique<OpenSslCipher>(key);
}
Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;

bool Aead::is_accelerated() { return functions() != nullptr; }

Tag Aead::seal(const Nonce& nonce, std::span<const std::byte> header, std::span<const std::byte> first,
               std::span<const std::byte> second, std::span<std::byte> out) {
  CHECK(out.size() == first.size() + second.size());
  return cipher_->seal(nonce, header, first, second, out);
}

bool Aead::open(const Nonce& nonce, std::span<const std::byte> header, std::span<std::byte> text,
                std::span<const std::byte, kTagBytes> tag) {
  return cipher_->open(nonce, header, text, tag);
}

}  // namespace slipstream::seal
