#include "dataplane/dpdk_port.h"

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <optional>

#include "dataplane/coarse_clock.h"
#include "dataplane/neighbour.h"
#include "dataplane/vdev.h"

namespace slipstream::dataplane {
namespace {

// More than its rings, its queue, a burst, what is shared in one and this thread's cache hold; a queued packet may be
// two.
constexpr unsigned kBuffersPerDevice = 4096;
constexpr unsigned kBufferCache = 256;

Error bad_address(const std::string& text, const std::string& where) {
  return {ExitCode::kPort, "\"" + text + "\" is no IPv4 address", where, "write it as 10.0.0.1"};
}

std::expected<rte_mempool*, Error> make_pool(const std::vector<DeviceConfig>& devices) {
  std::size_t packet_bytes = 2048;
  for (const DeviceConfig& device : devices)
    packet_bytes = std::max(packet_bytes, Device::packet_bytes_max(device) + kAfPacketRoomBytes);
  const auto room = static_cast<std::uint16_t>(std::min<std::size_t>(packet_bytes + RTE_PKTMBUF_HEADROOM, UINT16_MAX));
  const unsigned count = kBuffersPerDevice * static_cast<unsigned>(std::max<std::size_t>(1, devices.size())) - 1;
  rte_mempool* pool =
      rte_pktmbuf_pool_create("slipstream", count, kBufferCache, 0, room, static_cast<int>(rte_socket_id()));
  if (pool) return pool;
  const std::size_t needed_mb = (count + 1) * (room + std::size_t{256}) / (1 << 20) + 16;
  return std::unexpected(Error{ExitCode::kPort, std::string("no memory for packet buffers: ") + rte_strerror(rte_errno),
                               "runtime.memory_mb",
                               "set it to at least " + std::to_string(needed_mb) + " for these ports and MTUs"});
}

}  // namespace

std::expected<std::unique_ptr<DpdkPort>, Error> DpdkPort::open(const std::vector<DeviceConfig>& devices,
                                                               const std::vector<PeerConfig>& peers) {
  const auto pool = make_pool(devices);
  if (!pool) return std::unexpected(pool.error());
  std::unique_ptr<DpdkPort> out(new DpdkPort(*pool));
  for (const DeviceConfig& config : devices)
    if (auto added = out->add_line(config); !added) return std::unexpected(added.error());
  std::vector<const Device*> used;
  for (const Line& line : out->lines_) used.push_back(line.device.get());
  Device::close_others(used);
  for (const PeerConfig& config : peers)
    if (auto added = out->add_route(config); !added) return std::unexpected(added.error());
  return out;
}

DpdkPort::~DpdkPort() = default;

std::expected<void, Error> DpdkPort::add_line(const DeviceConfig& config) {
  const std::string where = "port \"" + config.name + "\"";
  const auto prefix = parse_ipv4_prefix(config.address);
  if (!prefix) return std::unexpected(bad_address(config.address, where));
  const auto gateway = parse_ipv4(config.gateway);
  if (!gateway && !config.gateway.empty()) return std::unexpected(bad_address(config.gateway, where));
  auto device = Device::open(config, prefix->address, pool_);
  if (!device) return std::unexpected(device.error());
  const Endpoint self = (*device)->self();
  lines_.push_back({std::move(*device), self, *prefix, gateway, false});
  return {};
}

std::expected<void, Error> DpdkPort::add_route(const PeerConfig& config) {
  const std::string where = "node " + std::to_string(config.id.value);
  const auto via =
      std::ranges::find_if(lines_, [&](const Line& line) { return line.device->config().name == config.via; });
  if (via == lines_.end())
    return std::unexpected(Error{ExitCode::kPort, "there is no port \"" + config.via + "\"", where,
                                 "set its via to the name of a [[port]]"});
  const auto address = parse_ipv4(config.address);
  if (!address) return std::unexpected(bad_address(config.address, where));
  const auto mac = parse_mac(config.mac);
  if (!mac && !config.mac.empty())
    return std::unexpected(
        Error{ExitCode::kPort, "\"" + config.mac + "\" is no MAC address", where, "write it as 02:00:00:00:00:01"});
  const bool is_neighbour = via->prefix.contains(*address);
  if (!is_neighbour && !via->gateway)
    return std::unexpected(Error{ExitCode::kPort,
                                 config.address + " is not in the network of port \"" + config.via + "\"", where,
                                 "give that port a gateway"});
  const NextHop hop(is_neighbour ? *address : *via->gateway, !is_neighbour, mac);
  routes_.push_back({config.id, static_cast<std::size_t>(via - lines_.begin()), *address, config.udp_port, hop, 0});
  return {};
}

const DpdkPort::Route* DpdkPort::route(NodeId id) const {
  const auto it = std::ranges::find(routes_, id, &Route::id);
  return it == routes_.end() ? nullptr : &*it;
}

void DpdkPort::on_foreign(std::size_t at, std::span<const std::byte> packet, Instant now) {
  Line& line = lines_[at];
  ++line.device->counters().foreign;
  if (const auto neighbour = arp_sender(packet, line.self.vlan))
    for (Route& route : routes_)
      if (route.line == at) route.hop.on_arp(neighbour->address, neighbour->mac, now);
  tell_of_router(line, packet);
  if (answers_left_ == 0) return;
  std::array<std::byte, kAnswerBytesMax> memory;
  const auto reply = answer(packet, line.self, memory);
  if (reply.empty() || line.device->room() == 0) return;
  --answers_left_;
  const std::span<std::byte> out = line.device->append(reply.size());
  if (!out.empty()) std::ranges::copy(reply, out.begin());
  line.device->flush();
}

// Once: what repeats it would tell nothing new.
void DpdkPort::tell_of_router(Line& line, std::span<const std::byte> packet) {
  const DeviceConfig& config = line.device->config();
  if (line.told_of_router || !config.warn) return;
  const auto size = size_that_passes(packet, line.self);
  if (!size || *size >= config.mtu) return;
  line.told_of_router = true;
  const std::string passes = std::to_string(*size);
  config.warn(
      "port \"" + config.name + "\": a router says that packets of more than " + passes + " bytes do not pass; " +
      (*size < Device::kMtuMin ? "at least " + std::to_string(Device::kMtuMin) + " are needed: choose another way"
                               : "set mtu = " + passes + " here and on the peers' ports"));
}

void DpdkPort::ask(Line& line, std::uint32_t address) {
  if (line.device->room() == 0) return;
  const std::span<std::byte> out = line.device->append(arp_packet_bytes(line.self.vlan));
  if (!out.empty()) write_arp_request(line.self, address, out);
  line.device->flush();
}

void DpdkPort::ask_for_next_hops(Instant now) {
  for (Route& route : routes_)
    if (Line& line = lines_[route.line]; line.device->room() > 0 && route.hop.asks(now)) ask(line, route.hop.address());
}

std::size_t DpdkPort::receive(std::span<protocol::Arrival> frames) {
  constexpr unsigned kAnswersMax = 4;
  const Instant now = coarse_now();
  std::size_t count = 0;
  answers_left_ = kAnswersMax;
  std::array<ReceivedPacket, Device::kBurst> packets;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    const std::size_t at = (next_line_ + i) % lines_.size();
    Line& line = lines_[at];
    const std::size_t got =
        line.device->receive(std::span(packets).first(std::min(packets.size(), frames.size() - count)), now);
    if (line.device->came_up()) ask(line, line.self.address);  // That is how one announces oneself.
    for (std::size_t k = 0; k < got; ++k) {
      const auto [packet, checksum_is_good] = packets[k];
      const auto datagram = open_packet(packet, line.self, checksum_is_good);
      if (!datagram) {
        on_foreign(at, packet, now);
        continue;
      }
      ++line.device->counters().received;
      for (Route& route : routes_)
        if (route.line == at && route.address == datagram->from_address)
          route.hop.on_datagram(datagram->from_address, datagram->from_mac, now);
      frames[count++] = protocol::Arrival(packet.subspan(datagram->offset, datagram->frame.size()));
    }
  }
  if (!lines_.empty()) next_line_ = (next_line_ + 1) % lines_.size();
  ask_for_next_hops(now);
  return count;
}

std::size_t DpdkPort::room(NodeId id) {
  const Route* to = route(id);
  return to && to->hop.is_reachable() ? lines_[to->line].device->room() : 0;
}

void DpdkPort::send(NodeId id, const node::OutFrame& frame) {
  const auto to = std::ranges::find(routes_, id, &Route::id);
  if (to == routes_.end()) return;  // It has no room() either.
  if (frame.shared_payload != 0 && send_chained(*to, frame)) return;
  const std::span<std::byte> place = append_packet(*to, frame.head_bytes + frame.payload.size(), nullptr);
  if (!place.empty()) node::copy_frame(frame, place);
}

// False: it is to be copied. Otherwise it was sent or dropped.
bool DpdkPort::send_chained(Route& to, const node::OutFrame& frame) {
  Device& device = *lines_[to.line].device;
  if (!device.offloads().chained || frame.payload.size() < device.config().chained_min) return false;
  rte_mbuf* const payload = shared_.buffer(frame.shared_payload, frame.payload);
  if (!payload) return false;
  const std::span<std::byte> place = append_packet(to, frame.head_bytes, payload);
  if (place.empty()) return true;
  copy_bytes(std::span(frame.head).first(frame.head_bytes), place);
  ++device.counters().chained;
  return true;
}

std::optional<std::span<std::byte>> DpdkPort::append(NodeId id, std::size_t bytes) {
  const auto to = std::ranges::find(routes_, id, &Route::id);
  if (to == routes_.end()) return std::span<std::byte>{};  // It has no room() either.
  return append_packet(*to, bytes, nullptr);
}

// A place for `bytes` of a frame, whose rest is in `tail`. Empty: dropped.
std::span<std::byte> DpdkPort::append_packet(Route& to, std::size_t bytes, rte_mbuf* tail) {
  Line& line = lines_[to.line];
  if (!to.hop.is_reachable()) {
    ++line.device->counters().dropped;
    return {};
  }
  if (line.device->is_burst_full()) line.device->flush();
  const std::size_t header_bytes = packet_header_bytes(line.self.vlan);
  const std::span<std::byte> packet = line.device->append_datagram(header_bytes + bytes, tail);
  if (packet.empty()) return {};
  write_headers(packet, line.self, {to.hop.mac(), to.address, to.udp_port}, to.identification++,
                bytes + (tail ? rte_pktmbuf_data_len(tail) : 0), line.device->offloads().writes_ip_checksum);
  return packet.subspan(header_bytes);
}

void DpdkPort::flush() {
  for (Line& line : lines_) line.device->flush();
  shared_.end_burst();
}

std::size_t DpdkPort::frame_bytes_max(NodeId id) const {
  const Route* to = route(id);
  return to ? lines_[to->line].device->ip_bytes_max() - kIpUdpBytes : 0;
}

std::vector<int> DpdkPort::wake_fds() const {
  std::vector<int> out;
  for (const Line& line : lines_)
    if (line.device->wake_fd() >= 0) out.push_back(line.device->wake_fd());
  return out;
}

bool DpdkPort::wakes() const {
  return std::ranges::all_of(lines_, [](const Line& line) { return line.device->wake_fd() >= 0; });
}

bool DpdkPort::is_restless() const {
  return std::ranges::any_of(lines_, [](const Line& line) { return line.device->is_restless(); });
}

std::vector<node::PortView> DpdkPort::views() const {
  std::vector<node::PortView> out;
  for (const Line& line : lines_) {
    const DeviceCounters& counters = line.device->counters();
    out.push_back({line.device->config().name, line.device->is_up(), counters.received, counters.sent, counters.foreign,
                   counters.dropped, counters.link_losses, line.device->missed(), counters.stalls,
                   line.device->offloads().names(), counters.chained});
  }
  return out;
}

}  // namespace slipstream::dataplane
