#include "dataplane/routed_port.h"

#include <algorithm>
#include <iterator>

namespace slipstream::dataplane {

node::Port* RoutedPort::port_to(NodeId peer) const {
  for (const Route& route : routes_)
    if (std::ranges::find(route.peers, peer) != route.peers.end()) return route.port.get();
  return nullptr;
}

std::size_t RoutedPort::receive(std::span<protocol::Arrival> frames) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < routes_.size() && count < frames.size(); ++i)
    count += routes_[(next_ + i) % routes_.size()].port->receive(frames.subspan(count));
  next_ = (next_ + 1) % routes_.size();
  return count;
}

std::size_t RoutedPort::room(NodeId peer) {
  node::Port* port = port_to(peer);
  return port ? port->room(peer) : 0;
}

void RoutedPort::send(NodeId peer, const node::OutFrame& frame) {
  if (node::Port* port = port_to(peer)) port->send(peer, frame);
}

std::optional<std::span<std::byte>> RoutedPort::append(NodeId peer, std::size_t bytes) {
  node::Port* port = port_to(peer);
  return port ? port->append(peer, bytes) : std::span<std::byte>{};
}

void RoutedPort::flush() {
  for (const Route& route : routes_) route.port->flush();
}

std::size_t RoutedPort::frame_bytes_max(NodeId peer) const {
  const node::Port* port = port_to(peer);
  return port ? port->frame_bytes_max(peer) : 0;
}

std::vector<int> RoutedPort::wake_fds() const {
  std::vector<int> out;
  for (const Route& route : routes_) {
    const auto fds = route.port->wake_fds();
    out.insert(out.end(), fds.begin(), fds.end());
  }
  return out;
}

bool RoutedPort::wakes() const {
  return std::ranges::all_of(routes_, [](const Route& route) { return route.port->wakes(); });
}

std::vector<node::PortView> RoutedPort::views() const {
  std::vector<node::PortView> out;
  for (const Route& route : routes_) std::ranges::copy(route.port->views(), std::back_inserter(out));
  return out;
}

bool RoutedPort::is_restless() const {
  return std::ranges::any_of(routes_, [](const Route& route) { return route.port->is_restless(); });
}

}  // namespace slipstream::dataplane
