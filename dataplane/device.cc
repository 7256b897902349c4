#include "dataplane/device.h"

#include <net/if.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "dataplane/coarse_clock.h"
#include "dataplane/control_gate.h"
#include "dataplane/dpdk_log.h"

namespace slipstream::dataplane {
namespace {

// What comes while this thread does not run waits in the device: 2048 full frames are 2 ms at 10 Gbit/s. (Of 1024,
// af_xdp dropped 10 to 30 % of a flood on two busy cores; more than 2048 it does not keep.)
constexpr std::uint16_t kReceiveDescriptors = 2048, kSendDescriptors = 1024;
constexpr unsigned kSendBuffersMin = 256;
constexpr int kFlushTries = 4;
constexpr std::uint32_t kTapMtuMax = 1500;  // Of its interface, as it makes it (DPDK 22.11).
// A link whose packets come is up; looking costs memif's data thread a moment, and milliseconds where the interrupt
// thread has to wait for a core.
constexpr Duration kLinkHeardPollPeriod = seconds(1), kLinkPollPeriod = milliseconds(100),
                   kLinkDownPollPeriod = milliseconds(5);
// For a handshake to finish before another attempt. The first may meet a server that is just leaving.
constexpr Duration kConnectPeriodMin = milliseconds(100), kConnectPeriodMax = milliseconds(500);
constexpr Duration kStartPeriod = milliseconds(500);  // Between attempts to start a device that stalled.

// Asks the kernel about one of its interfaces; false when it does not know it.
template <class Request>
bool ask_kernel(unsigned interface, Request request, ifreq& answer) {
  answer = {};
  if (::if_indextoname(interface, answer.ifr_name) == nullptr) return false;
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool known = ::ioctl(fd, static_cast<unsigned long>(request), &answer) == 0;
  ::close(fd);
  return known;
}

std::optional<std::uint16_t> find_port(const std::string& name) {
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(name.c_str(), &port) == 0) return port;
  rte_ether_addr wanted{};
  if (rte_ether_unformat_addr(name.c_str(), &wanted) != 0) return std::nullopt;
  for (port = 0; port < RTE_MAX_ETHPORTS; ++port) {
    rte_ether_addr mac{};
    if (rte_eth_dev_is_valid_port(port) && rte_eth_macaddr_get(port, &mac) == 0 &&
        rte_is_same_ether_addr(&mac, &wanted))
      return port;
  }
  return std::nullopt;
}

std::string existing_ports() {
  std::string out;
  for (std::uint16_t port = 0; port < RTE_MAX_ETHPORTS; ++port) {
    std::array<char, RTE_ETH_NAME_MAX_LEN> name{};
    if (rte_eth_dev_is_valid_port(port) && rte_eth_dev_get_name_by_port(port, name.data()) == 0)
      out += (out.empty() ? "" : ", ") + std::string(name.data());
  }
  return out.empty() ? "none" : out;
}

}  // namespace

Error Device::error(std::string what, std::string remedy) const {
  return {ExitCode::kPort, std::move(what), "port \"" + config_.name + "\" (" + config_.device + ")",
          std::move(remedy)};
}

std::expected<std::unique_ptr<Device>, Error> Device::open(const DeviceConfig& config, std::uint32_t address,
                                                           rte_mempool* pool) {
  std::unique_ptr<Device> out(new Device(config, address, pool));
  for (const auto part : {&Device::find, &Device::fit_mtu, &Device::set_up})
    if (auto done = (out.get()->*part)(); !done) return std::unexpected(done.error());
  return out;
}

Device::~Device() {
  if (restart_.joinable()) {
    restart_.request_stop();
    restart_.join();
    started_ = true;
  }
  free_received();
  drop_queue();
  if (!configured_) return;
  if (started_) stop();
  (void)rte_eth_dev_close(port_);
}

void Device::close_others(std::span<const Device* const> used) {
  const auto device_of = [](std::uint16_t port) {
    rte_eth_dev_info info{};
    return rte_eth_dev_is_valid_port(port) && rte_eth_dev_info_get(port, &info) == 0 ? info.device : nullptr;
  };
  for (std::uint16_t port = 0; port < RTE_MAX_ETHPORTS; ++port) {
    rte_device* const device = device_of(port);
    if (!device || std::string_view(rte_bus_name(rte_dev_bus(device))) != "pci") continue;
    // One device may have several ports.
    if (std::ranges::any_of(used, [&](const Device* each) { return device_of(each->port_) == device; })) continue;
    (void)rte_dev_remove(device);
  }
}

std::expected<void, Error> Device::find() {
  const auto port = find_port(config_.device);
  if (!port)
    return std::unexpected(error("DPDK has no such device; it has " + existing_ports(),
                                 "dpdk-devbind.py --status lists NICs: one that is used must be bound to vfio-pci (or "
                                 "be a Mellanox one)"));
  port_ = *port;
  rte_ether_addr mac{};
  rte_eth_macaddr_get(port_, &mac);
  std::ranges::transform(mac.addr_bytes, self_.mac.begin(),
                         [](std::uint8_t byte) { return static_cast<std::byte>(byte); });
  return {};
}

std::expected<void, Error> Device::fit_mtu() {
  ip_bytes_max_ = config_.mtu;
  if (config_.mtu < kMtuMin || config_.mtu > kMtuMax)
    return std::unexpected(error("mtu = " + std::to_string(config_.mtu) + " is not possible",
                                 "choose one from " + std::to_string(kMtuMin) + " to " + std::to_string(kMtuMax)));
  rte_eth_dev_info info{};
  if (rte_eth_dev_info_get(port_, &info) != 0) return {};
  kernel_interface_ = info.if_index;
  const rte_devargs* arguments = info.device ? rte_dev_devargs(info.device) : nullptr;
  const Vdev vdev(config_.device + "," + (arguments && arguments->args ? arguments->args : ""));
  if (vdev.driver() == "net_tap" && config_.mtu > kTapMtuMax)
    return std::unexpected(error("DPDK's tap carries no packets of mtu = " + std::to_string(config_.mtu),
                                 "set mtu = " + std::to_string(kTapMtuMax) + " or less"));
  ifreq answer{};
  if (kernel_interface_ != 0 && ask_kernel(kernel_interface_, SIOCGIFMTU, answer) &&
      answer.ifr_mtu < static_cast<int>(config_.mtu))
    return std::unexpected(error("the interface " + std::string(answer.ifr_name) + " has an MTU of " +
                                     std::to_string(answer.ifr_mtu) + ", the port one of " +
                                     std::to_string(config_.mtu),
                                 "ip link set " + std::string(answer.ifr_name) + " mtu " + std::to_string(config_.mtu) +
                                     ", or set the port's mtu to the interface's"));
  if (vdev.driver() == "net_af_packet") {
    const auto frame_bytes = std::strtoul(vdev.option("framesz").value_or("2048").c_str(), nullptr, 10);
    if (frame_bytes < packet_bytes_max(config_) + kAfPacketHeadBytes)
      return std::unexpected(error(
          "packets of mtu = " + std::to_string(config_.mtu) + " do not fit framesz=" + std::to_string(frame_bytes),
          "set " + af_packet_frames(packet_bytes_max(config_)) + " there, or name the device by interface ="));
  }
  is_memif_ = is_memif(vdev);
  can_restart_ = !is_memif_ && vdev.driver() != "net_af_packet";
  if (!is_memif_) return {};
  const MemifOptions memif = MemifOptions::of(vdev);
  // A packet in several of memif's buffers damages later ones (DPDK 22.11), so it has to fit one.
  const std::size_t head_bytes = ethernet_bytes(config_.vlan);
  ip_bytes_max_ =
      std::min<std::size_t>(config_.mtu, memif.buffer_bytes > head_bytes ? memif.buffer_bytes - head_bytes : 0);
  if (ip_bytes_max_ < kMtuMin)
    return std::unexpected(error("bsize=" + std::to_string(memif.buffer_bytes) + " is too small",
                                 "set bsize= to the mtu and " + std::to_string(head_bytes) + " more, on both sides"));
  if (!memif.is_server) server_ = std::make_unique<MemifServerProbe>(memif);
  doorbell_ = std::make_unique<Doorbell>(memif.bell(memif.is_server), memif.bell(!memif.is_server), memif.is_abstract,
                                         config_.may_sleep);
  return {};
}

std::expected<void, Error> Device::set_up() {
  rte_eth_dev_info info{};
  if (config_.use_offloads && rte_eth_dev_info_get(port_, &info) == 0) offloads_ = offered(info);
  const std::string_view driver = info.driver_name ? info.driver_name : "";
  const bool may_steer = config_.use_offloads && !is_memif_ && Steering::is_known(port_, driver);
  if (auto configured = configure(); !configured || !may_steer) return configured;
  return steer();
}

// Not every device comes back from isolation, so one enters it that has shown to take the rules.
std::expected<void, Error> Device::steer() {
  if (!steering_.install(port_, self_)) return {};
  stop();
  started_ = false;
  offloads_.steers = steering_.isolate(port_);
  if (auto configured = configure(); !configured || !offloads_.steers) return configured;
  if (steering_.install(port_, self_)) return {};
  return std::unexpected(error("refuses flow rules that it took before", "set offloads = \"none\" for this port"));
}

// And starts it, but for a memif client, whose server has to greet it first.
std::expected<void, Error> Device::configure() {
  const auto fail = [&](const std::string& what, int code) {
    const std::string complaint = dpdk_complaint();
    return std::unexpected(error(what + ": " + (complaint.empty() ? rte_strerror(-code) : complaint),
                                 "check the device's options, and that no other process uses it"));
  };
  forget_dpdk_log();
  rte_eth_dev_info info{};
  const bool described = rte_eth_dev_info_get(port_, &info) == 0;
  rte_eth_conf conf{};
  conf.txmode.offloads = tx_offloads(offloads_), conf.rxmode.offloads = rx_offloads(offloads_);
  // Virtual functions let no VLAN in that was not asked for.
  const bool filters =
      config_.vlan && !offloads_.steers && described && (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER);
  if (filters) conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
  if (const int code = rte_eth_dev_configure(port_, 1, 1, &conf); code != 0) return fail("cannot be configured", code);
  configured_ = true;
  // Virtual devices limit the MTU in name only: their buffers decide.
  const bool is_virtual =
      described && info.device && std::string_view(rte_bus_name(rte_dev_bus(info.device))) == "vdev";
  if (!is_virtual)
    if (const int code = rte_eth_dev_set_mtu(port_, static_cast<std::uint16_t>(config_.mtu));
        code != 0 && code != -ENOTSUP)
      return fail("cannot have mtu = " + std::to_string(config_.mtu), code);
  const bool has_two_rings = described && info.driver_name && std::string_view(info.driver_name) == "net_vmxnet3";
  std::uint16_t rx = has_two_rings ? kReceiveDescriptors / 2 : kReceiveDescriptors;
  std::uint16_t tx = offloads_.chained ? kSendDescriptors / 2 : kSendDescriptors;  // A chained packet is two buffers.
  (void)rte_eth_dev_adjust_nb_rx_tx_desc(port_, &rx, &tx);
  const auto socket = static_cast<unsigned>(rte_eth_dev_socket_id(port_));
  if (const int code = rte_eth_rx_queue_setup(port_, 0, rx, socket, nullptr, pool_); code != 0)
    return fail("cannot set up receiving", code);
  if (const int code = rte_eth_tx_queue_setup(port_, 0, tx, socket, nullptr); code != 0)
    return fail("cannot set up sending", code);
  if (filters)
    if (const int code = rte_eth_dev_vlan_filter(port_, config_.vlan, 1); code != 0)
      return fail("cannot be in vlan = " + std::to_string(config_.vlan), code);
  (void)rte_eth_promiscuous_enable(port_);  // Not every device can; then its own address must do.
  if (is_memif_ && !ControlGate::instance().begin()) return fail("has no memory for a timer", -ENOMEM);
  if (server_) return {};
  if (const int code = rte_eth_dev_start(port_); code != 0) return fail("does not start", code);
  started_ = true;
  if (rte_mempool_avail_count(pool_) < kSendBuffersMin)
    return fail("has taken all buffers for what arrives: there are none to send from", -ENOBUFS);
  return {};
}

bool Device::start() { return rte_eth_dev_start(port_) == 0 && (!offloads_.steers || steering_.install(port_, self_)); }

void Device::stop() {
  steering_.remove(port_);
  (void)rte_eth_dev_stop(port_);
}

bool Device::is_usable() const { return started_ && (!is_memif_ || (is_up_ && ControlGate::instance().is_held())); }

// Drivers of virtual functions ask their host and wait for its answer; for those of the kernel it is a system call.
std::optional<std::uint64_t> Device::missed() {
  rte_eth_stats stats{};
  if (kernel_interface_ == 0) return std::nullopt;
  if (is_usable() && rte_eth_stats_get(port_, &stats) == 0) missed_ = stats.imissed + stats.rx_nombuf;
  return missed_;
}

bool Device::is_restless() const {
  return queued_ > 0 || (is_memif_ && started_ && !ControlGate::instance().is_held());
}

bool Device::has_link() const {
  rte_eth_link link{};
  if (!started_ || rte_eth_link_get_nowait(port_, &link) != 0 || link.link_status != RTE_ETH_LINK_UP) return false;
  ifreq answer{};
  return kernel_interface_ == 0 || !ask_kernel(kernel_interface_, SIOCGIFFLAGS, answer) ||
         (answer.ifr_flags & IFF_RUNNING) != 0;
}

void Device::connect(Instant now) {
  if (now - connected_ < connect_period_ || !server_->is_greeted()) return;
  connected_ = now;
  connect_period_ = std::clamp(connect_period_ * 2, kConnectPeriodMin, kConnectPeriodMax);
  if (started_) stop();
  started_ = start();
}

void Device::on_stall() {
  ++counters_.stalls;
  drop_queue();
  if (!can_restart_) return;
  is_up_ = started_ = false;
  is_restarting_ = true;
  restart_ = std::jthread([this](const std::stop_token& ended) {
    stop();
    while (!start() && !ended.stop_requested()) std::this_thread::sleep_for(std::chrono::nanoseconds(kStartPeriod.ns));
    is_restarting_.store(false, std::memory_order_release);
  });
}

void Device::finish_restart() {
  if (!restart_.joinable() || is_restarting_.load(std::memory_order_acquire)) return;
  restart_.join();
  started_ = true;
}

void Device::poll_link(Instant now) {
  finish_restart();
  if (now - link_polled_ < (is_up_ ? kLinkPollPeriod : kLinkDownPollPeriod)) return;
  const bool heard = std::exchange(heard_, false);
  if (is_up_ && heard && now - link_looked_at_ < kLinkHeardPollPeriod) {
    link_polled_ = now;
    return;
  }
  ControlGate& gate = ControlGate::instance();
  if (is_memif_ && !gate.is_held()) return;
  link_polled_ = link_looked_at_ = now;
  const bool was_up = is_up_;
  is_up_ = has_link();
  if (was_up && !is_up_) ++counters_.link_losses;
  came_up_ |= !was_up && is_up_;
  if (is_up_) connect_period_ = {};
  if (doorbell_) doorbell_->reconnect();
  if (!is_up_) drop_queue();
  if (!is_up_ && server_) connect(now);
  if (is_memif_) gate.release();
}

void Device::free_received() {
  rte_pktmbuf_free_bulk(received_.data(), received_count_);
  received_count_ = 0;
}

std::size_t Device::receive(std::span<ReceivedPacket> packets, Instant now) {
  free_received();
  poll_link(now);
  const auto room = static_cast<std::uint16_t>(std::min<std::size_t>(kBurst, packets.size()));
  if (room == 0 || !is_usable()) return 0;
  received_count_ = rte_eth_rx_burst(port_, 0, received_.data(), room);
  heard_ = heard_ || received_count_ > 0;
  for (std::uint16_t i = 0; i < received_count_; ++i) {
    rte_mbuf* const packet = received_[i];
    const auto checksum = packet->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    // One in several buffers is no longer than ours where it was sent that way, and fits the first.
    const bool sound = checksum != RTE_MBUF_F_RX_IP_CKSUM_BAD && rte_pktmbuf_linearize(packet) == 0;
    packets[i] = {{rte_pktmbuf_mtod(packet, std::byte*), sound ? rte_pktmbuf_data_len(packet) : std::size_t{0}},
                  checksum == RTE_MBUF_F_RX_IP_CKSUM_GOOD};
  }
  return received_count_;
}

// Null, and counted: there is no room for a packet of so many bytes, or no buffer.
rte_mbuf* Device::append_packet(std::size_t bytes, std::size_t bytes_after) {
  const bool fits = room() > 0 && bytes + bytes_after <= ip_bytes_max_ + ethernet_bytes(config_.vlan);
  rte_mbuf* const packet = fits ? rte_pktmbuf_alloc(pool_) : nullptr;
  if (!packet) {
    ++counters_.dropped;
    return nullptr;
  }
  CHECK(rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes)) != nullptr);  // Buffers are as large as packets.
  return queue_[queued_++] = packet;
}

std::span<std::byte> Device::append(std::size_t bytes) {
  rte_mbuf* const packet = append_packet(bytes, 0);
  return packet ? std::span(rte_pktmbuf_mtod(packet, std::byte*), bytes) : std::span<std::byte>{};
}

std::span<std::byte> Device::append_datagram(std::size_t bytes, rte_mbuf* tail) {
  CHECK(!tail || offloads_.chained);
  rte_mbuf* const packet = append_packet(bytes, tail ? rte_pktmbuf_data_len(tail) : 0);
  if (!packet) return {};
  if (offloads_.writes_ip_checksum) {
    packet->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
    packet->tx_offload = rte_mbuf_tx_offload(ethernet_bytes(config_.vlan), kIpBytes, 0, 0, 0, 0, 0);
  }
  if (tail) {
    rte_pktmbuf_refcnt_update(tail, 1);
    CHECK(rte_pktmbuf_chain(packet, tail) == 0);  // Two buffers are few.
  }
  return {rte_pktmbuf_mtod(packet, std::byte*), bytes};
}

void Device::drop(std::size_t at) {
  rte_pktmbuf_free(queue_[at]);
  std::shift_left(queue_.begin() + static_cast<std::ptrdiff_t>(at),
                  queue_.begin() + static_cast<std::ptrdiff_t>(queued_), 1);
  --queued_, ++counters_.dropped;
}

// Drivers want to see what they are to complete; one that they refuse would stop all behind it.
void Device::prepare() {
  if (tx_offloads(offloads_) == 0) prepared_ = queued_;
  while (prepared_ < queued_) {
    prepared_ +=
        rte_eth_tx_prepare(port_, 0, queue_.data() + prepared_, static_cast<std::uint16_t>(queued_ - prepared_));
    if (prepared_ < queued_) drop(prepared_);
  }
}

void Device::flush() {
  if (queued_ == 0 || !is_usable()) return;
  prepare();
  std::size_t done = 0;
  for (int tries = 0; tries < kFlushTries && done < queued_; ++tries)
    done += rte_eth_tx_burst(port_, 0, queue_.data() + done, static_cast<std::uint16_t>(queued_ - done));
  counters_.sent += done;
  if (done > 0 && doorbell_) doorbell_->ring();
  std::shift_left(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(queued_),
                  static_cast<std::ptrdiff_t>(done));
  queued_ -= done, prepared_ -= done;
  if (queued_ == 0 || done > 0) {
    stalled_since_ = {};
    return;
  }
  const Instant now = coarse_now();
  if (stalled_since_ == Instant{})
    stalled_since_ = now;
  else if (now - stalled_since_ > kStalled)
    on_stall();
}

void Device::drop_queue() {
  counters_.dropped += queued_;
  rte_pktmbuf_free_bulk(queue_.data(), static_cast<unsigned>(queued_));
  queued_ = prepared_ = 0;
  stalled_since_ = {};
}

}  // namespace slipstream::dataplane
