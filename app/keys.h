#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "app/config.h"
#include "base/error.h"
#include "node/sealed_port.h"
#include "seal/secret.h"

// Key files: one line of base64, 32 bytes; lines that begin with # are comments. For their owner's eyes only.
namespace slipstream::app {

seal::RandomSource kernel_random();

// Errors (kConfiguration): it cannot be read, others can read it, it holds no key.
std::expected<seal::Secret, Error> read_secret(const std::filesystem::path& path);
// Durably, with mode 0600. Errors (kDirectory): it exists, or cannot be written.
std::expected<void, Error> write_secret(const std::filesystem::path& path, const seal::Secret& secret,
                                        const std::string& comment);

// This host's keys and its peers' as a sealed configuration names them. Errors (kConfiguration): as read_secret, or
// the host's key is not the one that its own [[node]] gives.
struct SealKeys {
  node::SealOptions options;
  std::vector<node::SealedPeer> peers;
};
std::expected<SealKeys, Error> load_keys(const Config& config);

}  // namespace slipstream::app
