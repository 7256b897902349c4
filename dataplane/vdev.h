#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipstream::dataplane {

// DPDK's description of a virtual device, "net_memif0,role=server,socket=/run/a.sock", taken apart. Any text is
// accepted.
class Vdev {
 public:
  explicit Vdev(std::string_view text);

  const std::string& name() const { return name_; }        // "net_memif0"
  const std::string& options() const { return options_; }  // All after the first comma.
  std::string driver() const;                              // "net_memif"
  std::optional<std::string> option(std::string_view key) const;
  std::vector<std::string> keys() const;

 private:
  std::string name_;
  std::string options_;
};

}  // namespace slipstream::dataplane
