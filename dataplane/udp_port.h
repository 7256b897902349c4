#pragma once

#include <netinet/in.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "dataplane/network_port.h"

namespace slipstream::dataplane {

struct UdpOptions {
  std::string name;     // The port's.
  std::string address;  // Local IPv4.
  std::uint16_t udp_port = 7650;
  std::uint32_t mtu = 1500;
  std::function<void(const std::string&)> warn;  // Told when frames to a peer begin to be dropped. May be empty.
};

// Frames through the kernel's UDP: the same wire format as on DPDK devices, which may be at the other end. For hosts
// that have no device to spare.
// Many frames a system call: those of one size to one peer go as one message that the kernel cuts (UDP_SEGMENT), and
// come as one that it has joined (UDP_GRO), as far as kernel and device can; many messages a call besides.
// Guarantees: (1) Nothing waits: what the socket does not take stays queued, and room() falls. (2) Only datagrams from
// peers' addresses are received. (3) What cannot be sent (no route, larger than the interface's MTU) is dropped and
// counted, and warned of once.
// Ownership: frames are copied when sent; received ones are valid until the next receive(). Threading: the data thread.
class UdpPort : public NetworkPort {
 public:
  struct Counters {
    std::uint64_t received = 0, sent = 0, foreign = 0 /* not from a peer, or too large */, dropped = 0, send_calls = 0,
                  receive_calls = 0;
  };

  // Errors (kPort): the address is none of this host's, it is taken, a peer's address is none.
  static std::expected<std::unique_ptr<UdpPort>, Error> open(const UdpOptions& options,
                                                             const std::vector<PeerConfig>& peers);
  ~UdpPort() override;

  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  std::optional<std::span<std::byte>> append(NodeId peer, std::size_t bytes) override;
  void flush() override;
  std::size_t frame_bytes_max(NodeId peer) const override;

  std::vector<int> wake_fds() const override { return {socket_}; }
  bool wakes() const override { return true; }
  bool is_restless() const override { return first_ < queued_ || !arrivals_.empty(); }
  std::vector<node::PortView> views() const override {
    return {
        {options_.name, true, counters_.received, counters_.sent, counters_.foreign, counters_.dropped, 0, missed()}};
  }

  const Counters& counters() const { return counters_; }
  const std::string& warning() const { return warning_; }  // Of open(): what will cost speed. May be empty.
 private:
  static constexpr std::size_t kQueueMax = 256;         // Frames.
  static constexpr std::size_t kArrivals = 16;          // Messages a system call.
  static constexpr std::size_t kArrivalBytes = 65'536;  // Of one at most, joined by the kernel.
  struct Peer {
    NodeId id;
    sockaddr_in address{};
    int problem = 0;  // Why the last frame was dropped; 0: it was not.
  };
  struct Queued {
    Peer* to = nullptr;
    std::size_t bytes = 0;
  };
  struct Arrival {
    std::span<std::byte> left;
    std::size_t segment = 0;
  };

  UdpPort(UdpOptions options, int socket);
  std::expected<void, Error> add_peer(const PeerConfig& config);
  void prepare_socket();
  Peer* peer(NodeId id) const;
  std::optional<std::uint64_t> missed() const;  // By the kernel's count: what came while the socket's buffer was full.
  std::byte* memory_of(std::size_t queued) { return out_.data() + queued * options_.mtu; }
  std::size_t frames_of_message(std::size_t first) const;
  int send_messages();
  void send_queued();
  void not_sent(std::size_t queued, int problem);
  void receive_messages();

  const UdpOptions options_;
  const int socket_;
  bool cuts_ = true;  // UDP_SEGMENT works here.
  std::string warning_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::array<Queued, kQueueMax> queue_{};
  std::size_t first_ = 0, queued_ = 0;  // queue_[first_, queued_) is to be sent.
  std::vector<std::byte> out_, in_;
  std::vector<Arrival> arrivals_;  // Of the last system call, not handed out yet; the first one last.
  Counters counters_;
};

}  // namespace slipstream::dataplane
