#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "dataplane/device.h"
#include "dataplane/ipv4.h"
#include "dataplane/network_port.h"
#include "dataplane/next_hop.h"
#include "dataplane/packet.h"
#include "dataplane/shared_payloads.h"

namespace slipstream::dataplane {

// Frames as UDP over IPv4 over Ethernet on DPDK devices; one device may serve several peers, but memif one.
// Guarantees: (1) Nothing here waits (device.h). (2) What is received was checked down to the frame's length (packet.h)
// and says nothing about who sent it: that stands in the frame.
//   (3) Neighbours are answered (ARP, ICMP echo), and told of us when a link comes up. (4) A peer outside the device's
//   prefix is reached through the gateway, and has no room() until that is known (next_hop.h). (5) What a device does
//   of Offloads it is left to, software does the rest; a payload that several peers get is copied once for all of them
//   on devices that send chained buffers.
// Ownership: frames are copied when sent; received ones are valid until the next receive(). Threading: the data thread.
class DpdkPort : public NetworkPort {
 public:
  // After start_eal(). Errors (kPort): no such device, it does not start, no memory, a peer that no device leads to.
  static std::expected<std::unique_ptr<DpdkPort>, Error> open(const std::vector<DeviceConfig>& devices,
                                                              const std::vector<PeerConfig>& peers);
  ~DpdkPort() override;

  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  std::optional<std::span<std::byte>> append(NodeId peer, std::size_t bytes) override;
  void flush() override;
  std::size_t frame_bytes_max(NodeId peer) const override;

  std::vector<int> wake_fds() const override;
  bool wakes() const override;
  bool is_restless() const override;
  std::vector<node::PortView> views() const override;  // In the order of open()'s devices.

 private:
  struct Line {  // A device, and who we are there.
    std::unique_ptr<Device> device;
    Endpoint self;
    Ipv4Prefix prefix;
    std::optional<std::uint32_t> gateway;
    bool told_of_router = false;
  };
  struct Route {
    NodeId id;
    std::size_t line = 0;
    std::uint32_t address = 0;
    std::uint16_t udp_port = 0;
    NextHop hop;
    std::uint16_t identification = 0;
  };

  explicit DpdkPort(rte_mempool* pool) : pool_(pool), shared_(pool) {}
  std::expected<void, Error> add_line(const DeviceConfig& config);
  std::expected<void, Error> add_route(const PeerConfig& config);
  const Route* route(NodeId id) const;
  std::span<std::byte> append_packet(Route& to, std::size_t bytes, rte_mbuf* tail);
  bool send_chained(Route& to, const node::OutFrame& frame);
  void on_foreign(std::size_t line, std::span<const std::byte> packet, Instant now);
  void tell_of_router(Line& line, std::span<const std::byte> packet);
  void ask(Line& line, std::uint32_t address);
  void ask_for_next_hops(Instant now);

  rte_mempool* pool_;
  SharedPayloads shared_;
  std::vector<Line> lines_;
  std::vector<Route> routes_;
  std::size_t next_line_ = 0;
  unsigned answers_left_ = 0;  // Of this receive(): nobody keeps us busy with questions.
};

}  // namespace slipstream::dataplane
