#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/network_port.h"

namespace slipstream::dataplane {

// Several ports of different kinds as one: each peer is reached through one of them.
class RoutedPort : public NetworkPort {
 public:
  struct Route {
    std::unique_ptr<NetworkPort> port;
    std::vector<NodeId> peers;
  };
  explicit RoutedPort(std::vector<Route> routes) : routes_(std::move(routes)) {}

  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override;
  void send(NodeId peer, const node::OutFrame& frame) override;
  std::optional<std::span<std::byte>> append(NodeId peer, std::size_t bytes) override;
  void flush() override;
  std::size_t frame_bytes_max(NodeId peer) const override;

  std::vector<int> wake_fds() const override;
  bool wakes() const override;
  bool is_restless() const override;
  std::vector<node::PortView> views() const override;

 private:
  node::Port* port_to(NodeId peer) const;

  std::vector<Route> routes_;
  std::size_t next_ = 0;  // Whose turn it is to be received from first.
};

}  // namespace slipstream::dataplane
