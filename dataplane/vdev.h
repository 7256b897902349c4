#pragma once

#include <cstddef>
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

// What net_af_packet needs for packets so long: frames that hold one and the kernel's headers, and blocks of whole
// pages that whole frames fill, since it takes the ring for one array of frames. "framesz=9088,blocksz=290816"
std::string af_packet_frames(std::size_t packet_bytes);
// A frame has to hold so much more than a packet, or longer ones vanish in silence.
constexpr std::size_t kAfPacketHeadBytes = 50;
// By so much may what comes of such a frame be longer than a packet: packet buffers have to hold it.
constexpr std::size_t kAfPacketRoomBytes = kAfPacketHeadBytes + 127;

}  // namespace slipstream::dataplane
