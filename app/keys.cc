#include "app/keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/check.h"

namespace slipstream::app {
namespace {

constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

Error bad_key_file(std::string what, const std::filesystem::path& path, std::string remedy) {
  return {ExitCode::kConfiguration, std::move(what), path.string(), std::move(remedy)};
}

}  // namespace

seal::RandomSource kernel_random() {
  return [](std::span<std::byte> out) {
    CHECK(getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));  // Whole, up to 256 bytes.
  };
}

std::expected<seal::Secret, Error> read_secret(const std::filesystem::path& path) {
  struct stat info{};
  std::ifstream file(path);
  if (!file || ::stat(path.c_str(), &info) != 0)
    return std::unexpected(bad_key_file(fmt::format("cannot read the key file: {}", std::strerror(errno)), path,
                                        "slipstream keygen makes one; it must belong to the user the daemon runs as"));
  if ((info.st_mode & kOthers) != 0)
    return std::unexpected(bad_key_file(
        fmt::format("other users may read or write this key file (mode {:04o})", info.st_mode & 07777), path,
        fmt::format("chmod 600 {}; if others could have read it, make a new one with slipstream keygen",
                    path.string())));
  std::string line;
  while (std::getline(file, line) && (line.empty() || line.starts_with('#'))) {
  }
  auto key = seal::parse_key(line);
  seal::wipe(std::as_writable_bytes(std::span(line)));
  if (!key)
    return std::unexpected(bad_key_file(fmt::format("there is no key in this file: {}", key.error()), path,
                                        "slipstream keygen makes key files"));
  const seal::Secret out(*key);
  seal::wipe(*key);
  return out;
}

std::expected<void, Error> write_secret(const std::filesystem::path& path, const seal::Secret& secret,
                                        const std::string& comment) {
  const auto fail = [&](const char* remedy) {
    return std::unexpected(
        Error{ExitCode::kDirectory, fmt::format("cannot write it: {}", std::strerror(errno)), path.string(), remedy});
  };
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0)
    return fail(errno == EEXIST ? "keys are never overwritten: name another file, or remove this one first"
                                : "name a file in a directory that is there and may be written to");
  std::string content = fmt::format("# {}\n{}\n", comment, seal::to_text(secret.bytes()));
  const bool written =
      ::write(file, content.data(), content.size()) == static_cast<ssize_t>(content.size()) && ::fsync(file) == 0;
  seal::wipe(std::as_writable_bytes(std::span(content)));
  ::close(file);
  if (written) return {};
  ::unlink(path.c_str());
  return fail("look at the file system, then repeat");
}

std::expected<SealKeys, Error> load_keys(const Config& config) {
  const auto host_key = read_secret(config.seal.host_key);
  if (!host_key) return std::unexpected(host_key.error());
  auto cluster_key = read_secret(config.seal.cluster_key);
  if (!cluster_key) return std::unexpected(cluster_key.error());
  SealKeys out;
  out.options = {config.self().number,
                 config.name,
                 config.role == Role::kPrimary,
                 seal::key_pair_of(*host_key),
                 *cluster_key,
                 config.seal.rekey_packets,
                 kernel_random(),
                 config.seal.data_per_replica};
  if (const auto& given = config.self().public_key; given && *given != out.options.own.public_key)
    return std::unexpected(
        bad_key_file(fmt::format("this is not the key whose public_key the [[node]] \"{}\" gives", config.name),
                     config.seal.host_key,
                     fmt::format("its public key is {}: write that into every configuration, or name the right file",
                                 seal::to_text(out.options.own.public_key))));
  for (const NodeConfig& node : config.nodes)
    if (node.name != config.name && node.role != config.role && node.public_key)
      out.peers.push_back({node.number, node.name, *node.public_key});
  return out;
}

}  // namespace slipstream::app
