#include "dataplane/dpdk_port.h"

#include <arpa/inet.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "dataplane/neighbour.h"

namespace slipstream::dataplane {
namespace {

constexpr unsigned kBuffersPerDevice = 4096;  // More than its rings, its queue and a burst hold.
constexpr unsigned kBufferCache = 256;

std::optional<std::uint32_t> parse_address(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

Error bad_address(const std::string& text, const std::string& where) {
  return {ExitCode::kPort, "\"" + text + "\" is no IPv4 address", where, "write it as 10.0.0.1"};
}

std::expected<rte_mempool*, Error> make_pool(const std::vector<DeviceConfig>& devices) {
  std::size_t packet_bytes = 2048;
  for (const DeviceConfig& device : devices)
    packet_bytes = std::max(packet_bytes, Device::packet_bytes_max(device) + 64);
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
  std::unique_ptr<DpdkPort> out(new DpdkPort);
  const auto pool = make_pool(devices);
  if (!pool) return std::unexpected(pool.error());
  for (const DeviceConfig& config : devices)
    if (auto added = out->add_line(config, *pool); !added) return std::unexpected(added.error());
  for (const PeerConfig& config : peers)
    if (auto added = out->add_route(config); !added) return std::unexpected(added.error());
  return out;
}

DpdkPort::~DpdkPort() = default;

std::expected<void, Error> DpdkPort::add_line(const DeviceConfig& config, rte_mempool* pool) {
  const auto address = parse_address(config.address);
  if (!address) return std::unexpected(bad_address(config.address, "port \"" + config.name + "\""));
  auto device = Device::open(config, pool);
  if (!device) return std::unexpected(device.error());
  const Endpoint self{(*device)->mac(), *address, config.udp_port};
  lines_.push_back({std::move(*device), self});
  return {};
}

std::expected<void, Error> DpdkPort::add_route(const PeerConfig& config) {
  const std::string where = "node " + std::to_string(config.id.value);
  const auto via =
      std::ranges::find_if(lines_, [&](const Line& line) { return line.device->config().name == config.via; });
  if (via == lines_.end())
    return std::unexpected(Error{ExitCode::kPort, "there is no port \"" + config.via + "\"", where,
                                 "set its via to the name of a [[port]]"});
  const auto address = parse_address(config.address);
  if (!address) return std::unexpected(bad_address(config.address, where));
  const auto mac = config.mac.empty() ? kBroadcast : parse_mac(config.mac);
  if (!mac)
    return std::unexpected(
        Error{ExitCode::kPort, "\"" + config.mac + "\" is no MAC address", where, "write it as 02:00:00:00:00:01"});
  routes_.push_back({config.id,
                     static_cast<std::size_t>(via - lines_.begin()),
                     {*mac, *address, config.udp_port},
                     config.mac.empty(),
                     0});
  return {};
}

const DpdkPort::Route* DpdkPort::route(NodeId id) const {
  const auto it = std::ranges::find(routes_, id, &Route::id);
  return it == routes_.end() ? nullptr : &*it;
}

void DpdkPort::learn(std::size_t line, std::uint32_t address, const MacAddress& mac) {
  if ((mac.front() & std::byte{1}) != std::byte{0}) return;  // A group's address is nobody's.
  for (Route& route : routes_)
    if (route.learns && route.line == line && route.peer.address == address) route.peer.mac = mac;
}

void DpdkPort::on_foreign(std::size_t at, std::span<const std::byte> packet) {
  Line& line = lines_[at];
  ++line.device->counters().foreign;
  if (const auto neighbour = arp_sender(packet)) learn(at, neighbour->address, neighbour->mac);
  if (answers_left_ == 0) return;
  std::array<std::byte, kAnswerBytesMax> memory;
  const auto reply = answer(packet, line.self, memory);
  if (reply.empty() || line.device->room() == 0) return;
  --answers_left_;
  const std::span<std::byte> out = line.device->append(reply.size());
  if (!out.empty()) std::ranges::copy(reply, out.begin());
  line.device->flush();
}

void DpdkPort::announce(Line& line) {
  if (line.device->room() == 0) return;
  const std::span<std::byte> out = line.device->append(kAnnouncementBytes);
  if (!out.empty()) write_announcement(line.self, out);
  line.device->flush();
}

std::size_t DpdkPort::receive(std::span<std::span<std::byte>> frames) {
  constexpr unsigned kAnswersMax = 4;
  std::size_t count = 0;
  answers_left_ = kAnswersMax;
  std::array<std::span<std::byte>, Device::kBurst> packets;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    const std::size_t at = (next_line_ + i) % lines_.size();
    Line& line = lines_[at];
    const std::size_t got =
        line.device->receive(std::span(packets).first(std::min(packets.size(), frames.size() - count)));
    if (line.device->came_up()) announce(line);
    for (std::size_t k = 0; k < got; ++k) {
      const auto datagram = open_packet(packets[k], line.self);
      if (!datagram) {
        on_foreign(at, packets[k]);
        continue;
      }
      ++line.device->counters().received;
      learn(at, datagram->from_address, datagram->from_mac);
      frames[count++] = packets[k].subspan(datagram->offset, datagram->frame.size());
    }
  }
  if (!lines_.empty()) next_line_ = (next_line_ + 1) % lines_.size();
  return count;
}

std::size_t DpdkPort::room(NodeId id) {
  const Route* to = route(id);
  return to ? lines_[to->line].device->room() : 0;
}

void DpdkPort::send(NodeId id, const node::OutFrame& frame) {
  const auto to = std::ranges::find(routes_, id, &Route::id);
  if (to == routes_.end()) return;  // It has no room() either.
  Line& line = lines_[to->line];
  const std::size_t bytes = frame.head_bytes + frame.payload.size();
  const std::span<std::byte> packet = line.device->append(kPacketHeaderBytes + bytes);
  if (packet.empty()) return;
  write_headers(packet, line.self, to->peer, to->identification++, bytes);
  std::memcpy(packet.data() + kPacketHeaderBytes, frame.head.data(), frame.head_bytes);
  if (!frame.payload.empty())
    std::memcpy(packet.data() + kPacketHeaderBytes + frame.head_bytes, frame.payload.data(), frame.payload.size());
  if (line.device->is_burst_full()) line.device->flush();
}

void DpdkPort::flush() {
  for (Line& line : lines_) line.device->flush();
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

std::vector<DeviceCounters> DpdkPort::counters() const {
  std::vector<DeviceCounters> out;
  for (const Line& line : lines_) out.push_back(line.device->counters());
  return out;
}

}  // namespace slipstream::dataplane
