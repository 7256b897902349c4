#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "node/io.h"

namespace slipstream::dataplane {

struct DeviceConfig {
  std::string name;         // In messages, and what peers' `via` names.
  std::string device;       // DPDK's device name (a vdev's: up to its first comma), a PCI address, or a MAC address.
  std::uint32_t mtu = 1500;
  std::string address;      // Local IPv4.
  std::uint16_t udp_port = 7650;
  bool connects = false;    // A memif client: while its link is down it is started anew, which is how it finds its server.
};

struct PeerConfig {
  NodeId id;
  std::string address;
  std::uint16_t udp_port = 7650;
  std::string mac;  // Empty: broadcast until learnt.
  std::string via;  // A device's name.
};

struct DeviceCounters {
  std::uint64_t received = 0, sent = 0, foreign = 0 /* not for us, or malformed */, dropped = 0 /* link down or stalled */;
};

// Frames as UDP over IPv4 over Ethernet on DPDK devices; one device may serve several peers. Never waits: what a device does not take stays in a bounded queue and is tried again
// each turn; when its link is down or it takes nothing for a second, the queue is dropped.
// Received frames are checked (ethertype, IP header, no fragments, port, lengths); MAC addresses of peers are learnt from them.
class DpdkPort : public node::Port {
 public:
  // After start_eal(). Errors (kPort): no such device, it does not start, no memory.
  static std::expected<std::unique_ptr<DpdkPort>, Error> open(const std::vector<DeviceConfig>& devices, const std::vector<PeerConfig>& peers);
  ~DpdkPort() override;

  std::size_t receive(std::span<std::span<const std::byte>> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  void flush() override;
  std::size_t frame_bytes_max(NodeId peer) const override;

  std::vector<DeviceCounters> counters() const;

 private:
  DpdkPort();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipstream::dataplane
