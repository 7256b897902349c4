#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "app/control.h"
#include "base/error.h"

namespace slipstream::app::bench {

// A new directory below `parent`, removed with everything in it at the end.
class ScratchDirectory {
 public:
  static std::expected<ScratchDirectory, Error> make(const std::filesystem::path& parent);
  ~ScratchDirectory();
  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// Both sides on this host as processes of this program, joined by one device.
struct TwoSides {
  std::string device = "memif";  // Or kernel_udp.
  unsigned mtu = 1500;
  std::string idle = "adaptive";
  std::string security = "plaintext";
  double loss = 0;                  // Of what the replica receives.
  std::string sink = "log";         // `bench receive --sink`
  std::filesystem::path directory;  // Where the receiver's log is: a parent for a new one.
  std::vector<std::string> sender;  // Arguments of `slipstream bench` without its configuration; prints JSON.
};
struct BothSaid {
  Json sender, receiver;  // Null where it printed nothing.
};
// Errors: that of the side that failed, on standard error already.
std::expected<BothSaid, Error> run_two_sides(const TwoSides& sides);

}  // namespace slipstream::app::bench
