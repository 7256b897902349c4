#include "dataplane/dpdk_port.h"

#include <arpa/inet.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace slipstream::dataplane {
namespace {

constexpr std::uint16_t kBurst = 32;
constexpr std::size_t kQueueMax = 256;    // Frames waiting for a device.
constexpr std::size_t kRingSize = 1024;   // Descriptors a direction.
constexpr unsigned kPoolBase = 4096;
constexpr std::size_t kHeaders = sizeof(rte_ether_hdr) + sizeof(rte_ipv4_hdr) + sizeof(rte_udp_hdr);
constexpr int kFlushTries = 4;
constexpr std::int64_t kLinkPollNs = 50'000'000;
constexpr std::int64_t kReconnectNs = 200'000'000;
constexpr std::int64_t kStalledNs = 1'000'000'000;

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);  // Only for link polling: a coarse clock costs next to nothing.
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

struct Device {
  DeviceConfig config;
  std::uint16_t port = 0;
  rte_ether_addr mac{};
  std::uint32_t address = 0;  // Network order.
  bool started = false;
  bool up = false;
  std::int64_t link_polled = 0;
  std::int64_t stalled_since = 0;
  std::int64_t restarted = 0;
  std::array<rte_mbuf*, kQueueMax> queue{};
  std::size_t queued = 0;
  std::array<rte_mbuf*, kBurst> received{};
  std::uint16_t received_count = 0;
  DeviceCounters counters;
};

struct PeerRoute {
  PeerConfig config;
  std::size_t device = 0;
  std::uint32_t address = 0;
  rte_ether_addr mac{};
  std::uint16_t identification = 0;
};

std::optional<std::uint16_t> find_device(const std::string& name) {
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(name.c_str(), &port) == 0) return port;
  rte_ether_addr wanted{};
  if (rte_ether_unformat_addr(name.c_str(), &wanted) != 0) return std::nullopt;
  for (port = 0; port < RTE_MAX_ETHPORTS; ++port) {
    rte_ether_addr mac{};
    if (rte_eth_dev_is_valid_port(port) && rte_eth_macaddr_get(port, &mac) == 0 && rte_is_same_ether_addr(&mac, &wanted)) return port;
  }
  return std::nullopt;
}

std::expected<void, Error> start_device(Device& device, rte_mempool* pool) {
  const auto fail = [&](const std::string& what, int code) {
    return std::unexpected(Error{ExitCode::kPort, what + ": " + rte_strerror(-code), "port \"" + device.config.name + "\" (" + device.config.device + ")",
                                 "check the device's options and that no other process uses it"});
  };
  const auto port = find_device(device.config.device);
  if (!port)
    return std::unexpected(Error{ExitCode::kPort, "there is no such device", "port \"" + device.config.name + "\" (" + device.config.device + ")",
                                 "dpdk-devbind.py --status lists devices; a PCI device must be bound to vfio-pci, a vdev's driver must exist"});
  device.port = *port;
  rte_eth_conf conf{};
  if (const int code = rte_eth_dev_configure(device.port, 1, 1, &conf); code != 0) return fail("cannot configure", code);
  if (device.config.mtu != 1500) (void)rte_eth_dev_set_mtu(device.port, static_cast<std::uint16_t>(device.config.mtu));  // memif cannot, and needs not.
  std::uint16_t rx = kRingSize, tx = kRingSize;
  (void)rte_eth_dev_adjust_nb_rx_tx_desc(device.port, &rx, &tx);
  const int socket = rte_eth_dev_socket_id(device.port);
  if (const int code = rte_eth_rx_queue_setup(device.port, 0, rx, static_cast<unsigned>(socket), nullptr, pool); code != 0) return fail("cannot set up receiving", code);
  if (const int code = rte_eth_tx_queue_setup(device.port, 0, tx, static_cast<unsigned>(socket), nullptr); code != 0) return fail("cannot set up sending", code);
  // A memif client whose server is not there yet starts later, when its link is looked at.
  const int code = rte_eth_dev_start(device.port);
  device.started = code == 0;
  if (!device.started && !device.config.connects) return fail("does not start", code);
  (void)rte_eth_promiscuous_enable(device.port);  // Not every device can; then its own address must do.
  rte_eth_macaddr_get(device.port, &device.mac);
  return {};
}

}  // namespace

struct DpdkPort::Impl {
  std::vector<Device> devices;
  std::vector<PeerRoute> peers;
  rte_mempool* pool = nullptr;
  std::size_t next_device = 0;

  PeerRoute* route(NodeId id) {
    const auto it = std::ranges::find_if(peers, [&](const PeerRoute& p) { return p.config.id == id; });
    return it == peers.end() ? nullptr : &*it;
  }

  void poll_link(Device& device, std::int64_t now) {
    if (now - device.link_polled < kLinkPollNs) return;
    device.link_polled = now;
    rte_eth_link link{};
    device.up = device.started && rte_eth_link_get_nowait(device.port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    if (device.up) return;
    drop_queue(device);
    if (!device.config.connects || now - device.restarted < kReconnectNs) return;
    device.restarted = now;
    if (device.started) (void)rte_eth_dev_stop(device.port);
    device.started = rte_eth_dev_start(device.port) == 0;
  }

  void drop_queue(Device& device) {
    device.counters.dropped += device.queued;
    rte_pktmbuf_free_bulk(device.queue.data(), static_cast<unsigned>(device.queued));
    device.queued = 0;
  }

  void flush(Device& device) {
    std::size_t done = 0;
    for (int tries = 0; tries < kFlushTries && done < device.queued; ++tries)
      done += rte_eth_tx_burst(device.port, 0, device.queue.data() + done, static_cast<std::uint16_t>(device.queued - done));
    device.counters.sent += done;
    std::copy(device.queue.begin() + static_cast<std::ptrdiff_t>(done), device.queue.begin() + static_cast<std::ptrdiff_t>(device.queued), device.queue.begin());
    device.queued -= done;
    if (device.queued == 0 || done > 0) {
      device.stalled_since = 0;
    } else {
      const std::int64_t now = now_ns();
      if (device.stalled_since == 0) device.stalled_since = now;
      else if (now - device.stalled_since > kStalledNs) drop_queue(device);
    }
  }

  // The frame inside a packet; empty when it is not one of ours.
  std::span<const std::byte> open(Device& device, rte_mbuf* packet) {
    const std::size_t bytes = rte_pktmbuf_pkt_len(packet);
    if (packet->nb_segs != 1 || bytes < kHeaders) return {};
    const auto* ether = rte_pktmbuf_mtod(packet, const rte_ether_hdr*);
    const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(ether + 1);
    if (ether->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) || ip->version_ihl != 0x45 || ip->next_proto_id != IPPROTO_UDP) return {};
    if ((rte_be_to_cpu_16(ip->fragment_offset) & 0x3fff) != 0 || ip->dst_addr != device.address) return {};
    const auto* udp = reinterpret_cast<const rte_udp_hdr*>(ip + 1);
    const std::size_t ip_bytes = rte_be_to_cpu_16(ip->total_length), udp_bytes = rte_be_to_cpu_16(udp->dgram_len);
    if (udp->dst_port != rte_cpu_to_be_16(device.config.udp_port) || ip_bytes + sizeof(rte_ether_hdr) > bytes || udp_bytes < sizeof(rte_udp_hdr) ||
        udp_bytes + sizeof(rte_ipv4_hdr) > ip_bytes)
      return {};
    for (PeerRoute& peer : peers)
      if (peer.address == ip->src_addr && peer.config.mac.empty()) rte_ether_addr_copy(&ether->src_addr, &peer.mac);
    return {reinterpret_cast<const std::byte*>(udp + 1), udp_bytes - sizeof(rte_udp_hdr)};
  }

  void fill_headers(rte_mbuf* packet, const Device& device, PeerRoute& peer, std::size_t frame_bytes) {
    auto* ether = rte_pktmbuf_mtod(packet, rte_ether_hdr*);
    rte_ether_addr_copy(&peer.mac, &ether->dst_addr);
    rte_ether_addr_copy(&device.mac, &ether->src_addr);
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(ether + 1);
    *ip = {};
    ip->version_ihl = 0x45;
    ip->total_length = rte_cpu_to_be_16(static_cast<std::uint16_t>(sizeof(rte_ipv4_hdr) + sizeof(rte_udp_hdr) + frame_bytes));
    ip->packet_id = rte_cpu_to_be_16(peer.identification++);
    ip->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
    ip->time_to_live = 64;
    ip->next_proto_id = IPPROTO_UDP;
    ip->src_addr = device.address;
    ip->dst_addr = peer.address;
    ip->hdr_checksum = rte_ipv4_cksum(ip);
    auto* udp = reinterpret_cast<rte_udp_hdr*>(ip + 1);
    udp->src_port = rte_cpu_to_be_16(device.config.udp_port);
    udp->dst_port = rte_cpu_to_be_16(peer.config.udp_port);
    udp->dgram_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(sizeof(rte_udp_hdr) + frame_bytes));
    udp->dgram_cksum = 0;  // Frames carry stronger checks of their own.
  }
};

DpdkPort::DpdkPort() : impl_(std::make_unique<Impl>()) {}

DpdkPort::~DpdkPort() {
  for (Device& device : impl_->devices) {
    rte_pktmbuf_free_bulk(device.received.data(), device.received_count);
    impl_->drop_queue(device);
    (void)rte_eth_dev_stop(device.port);
    (void)rte_eth_dev_close(device.port);
  }
}

std::expected<std::unique_ptr<DpdkPort>, Error> DpdkPort::open(const std::vector<DeviceConfig>& devices, const std::vector<PeerConfig>& peers) {
  std::unique_ptr<DpdkPort> out(new DpdkPort);
  Impl& impl = *out->impl_;
  std::uint32_t mtu = 1500;
  for (const DeviceConfig& device : devices) mtu = std::max(mtu, device.mtu);
  const auto room = static_cast<std::uint16_t>(std::max<std::uint32_t>(2048, mtu + 64) + RTE_PKTMBUF_HEADROOM);
  impl.pool = rte_pktmbuf_pool_create("slipstream", kPoolBase * static_cast<unsigned>(std::max<std::size_t>(1, devices.size())) - 1, 256, 0, room, static_cast<int>(rte_socket_id()));
  if (!impl.pool)
    return std::unexpected(Error{ExitCode::kPort, "not enough memory for packet buffers", "runtime.memory_mb", "raise runtime.memory_mb, or reserve hugepages"});
  for (const DeviceConfig& config : devices) {
    Device& device = impl.devices.emplace_back();
    device.config = config;
    device.address = inet_addr(config.address.c_str());
    if (auto started = start_device(device, impl.pool); !started) {
      impl.devices.pop_back();
      return std::unexpected(started.error());
    }
  }
  for (const PeerConfig& config : peers) {
    PeerRoute route{config, 0, inet_addr(config.address.c_str()), {}, 0};
    const auto via = std::ranges::find_if(impl.devices, [&](const Device& d) { return d.config.name == config.via; });
    CHECK(via != impl.devices.end());  // The configuration was checked.
    route.device = static_cast<std::size_t>(via - impl.devices.begin());
    if (config.mac.empty()) std::ranges::fill(route.mac.addr_bytes, std::uint8_t{0xff});
    else if (rte_ether_unformat_addr(config.mac.c_str(), &route.mac) != 0)
      return std::unexpected(Error{ExitCode::kPort, "\"" + config.mac + "\" is no MAC address", "node.mac", "write it as 02:00:00:00:00:01"});
    impl.peers.push_back(route);
  }
  return out;
}

std::size_t DpdkPort::receive(std::span<std::span<const std::byte>> frames) {
  std::size_t count = 0;
  const std::int64_t now = now_ns();
  for (std::size_t i = 0; i < impl_->devices.size(); ++i) {
    Device& device = impl_->devices[(impl_->next_device + i) % impl_->devices.size()];
    rte_pktmbuf_free_bulk(device.received.data(), device.received_count);
    device.received_count = 0;
    impl_->poll_link(device, now);
    const auto room = static_cast<std::uint16_t>(std::min<std::size_t>(kBurst, frames.size() - count));
    if (room == 0 || !device.started) continue;
    device.received_count = rte_eth_rx_burst(device.port, 0, device.received.data(), room);
    for (std::uint16_t k = 0; k < device.received_count; ++k) {
      const auto frame = impl_->open(device, device.received[k]);
      if (frame.empty()) ++device.counters.foreign;
      else frames[count++] = frame, ++device.counters.received;
    }
  }
  if (!impl_->devices.empty()) impl_->next_device = (impl_->next_device + 1) % impl_->devices.size();
  return count;
}

std::size_t DpdkPort::room(NodeId id) {
  const PeerRoute* peer = impl_->route(id);
  if (!peer) return 0;
  const Device& device = impl_->devices[peer->device];
  return device.up ? kQueueMax - device.queued : 0;
}

void DpdkPort::send(NodeId id, const node::OutFrame& frame) {
  PeerRoute* peer = impl_->route(id);
  CHECK(peer != nullptr);
  Device& device = impl_->devices[peer->device];
  const std::size_t bytes = frame.head_bytes + frame.payload.size();
  rte_mbuf* packet = device.queued < kQueueMax ? rte_pktmbuf_alloc(impl_->pool) : nullptr;
  if (!packet) {
    ++device.counters.dropped;
    return;
  }
  char* at = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(kHeaders + bytes));
  CHECK(at != nullptr);
  impl_->fill_headers(packet, device, *peer, bytes);
  std::memcpy(at + kHeaders, frame.head.data(), frame.head_bytes);
  if (!frame.payload.empty()) std::memcpy(at + kHeaders + frame.head_bytes, frame.payload.data(), frame.payload.size());
  device.queue[device.queued++] = packet;
  if (device.queued >= kBurst) impl_->flush(device);
}

void DpdkPort::flush() {
  for (Device& device : impl_->devices)
    if (device.queued > 0) impl_->flush(device);
}

std::size_t DpdkPort::frame_bytes_max(NodeId id) const {
  const PeerRoute* peer = impl_->route(id);
  return (peer ? impl_->devices[peer->device].config.mtu : 1500) - sizeof(rte_ipv4_hdr) - sizeof(rte_udp_hdr);
}

std::vector<DeviceCounters> DpdkPort::counters() const {
  std::vector<DeviceCounters> out;
  for (const Device& device : impl_->devices) out.push_back(device.counters);
  return out;
}

}  // namespace slipstream::dataplane
