#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/time.h"
#include "dataplane/doorbell.h"
#include "dataplane/memif.h"
#include "dataplane/offloads.h"
#include "dataplane/packet.h"
#include "dataplane/steering.h"

struct rte_mbuf;
struct rte_mempool;

namespace slipstream::dataplane {

struct DeviceConfig {
  std::string name;          // In messages, and what peers' `via` names.
  std::string device;        // DPDK's device name (a vdev's: up to its first comma), a PCI address, or a MAC address.
  std::uint32_t mtu = 1500;  // Of the network: the IP packet's greatest size. memif's bsize must be 14 more, 18 in a
                             // VLAN.
  std::string address;     // Local IPv4, with the length of its network's prefix: "10.0.0.1/24". Without a length every
                           // peer is a neighbour.
  std::string gateway;     // Takes what is for peers outside the prefix. May be empty when there are none.
  std::uint16_t vlan = 0;  // 0: none.
  std::uint16_t udp_port = 7650;
  bool use_offloads = true;  // Those that the device offers; else software does it all.
  // Shared payloads below are copied sooner than a second buffer is handed through a driver (bench/port_bench.cc).
  std::size_t chained_min = 2048;
  std::function<void(const std::string&)> warn;  // Told what an operator should know. May be empty.
  bool may_sleep = true;  // The thread sleeps when nothing happens: peers on this machine are asked to wake it.
};

struct DeviceCounters {
  std::uint64_t received = 0, sent = 0, foreign = 0 /* not for us, or malformed */,
                dropped = 0 /* link down, stalled, no memory, or beyond room() */;
  std::uint64_t chained = 0;  // Given to it in two buffers.
  std::uint64_t link_losses = 0;
  std::uint64_t stalls = 0;  // How often it took nothing for kStalled.
};

struct ReceivedPacket {
  std::span<std::byte> bytes;        // Empty: damaged, by the device's own check, or longer than any of ours.
  bool ip_checksum_is_good = false;  // The device looked at it.
};

// One DPDK device with a queue each way. Packets are whole: from the Ethernet header on.
// Guarantees: (1) Nothing here waits. What the device does not take stays in a queue of kQueueMax packets and is tried
// again, a bounded number of times per flush(). (2) When the
//   link is down, or the device takes nothing for kStalled, the queue is dropped and counted. A device that stalled is
//   then stopped and started, on a thread of its own, since that takes a NIC up to seconds; it is down meanwhile. Not
//   so memif, whose peer it is that takes nothing, nor af_packet, whose driver cannot start again. (3) A memif client
//   finds its server when that is started, or started again. (4) memif's rings are touched only while DPDK's interrupt
//   thread is held (control_gate.h).
// Ownership: closes the device. The pool outlives it. Threading: one thread.
class Device {
 public:
  static constexpr std::size_t kQueueMax = 256;
  static constexpr std::uint16_t kBurst = 32;
  static constexpr Duration kStalled = milliseconds(500);
  static constexpr std::uint32_t kMtuMin = 1436, kMtuMax = 9600;  // A control frame with its headers; what NICs take.

  // Room that a packet of this device needs in a pool's buffers.
  static std::size_t packet_bytes_max(const DeviceConfig& config) { return config.mtu + ethernet_bytes(config.vlan); }

  // `address` is config.address's.
  static std::expected<std::unique_ptr<Device>, Error> open(const DeviceConfig& config, std::uint32_t address,
                                                            rte_mempool* pool);
  // Lets go of PCI devices that no `used` one is on: looking for a MAC address opens all that are bound to vfio-pci.
  static void close_others(std::span<const Device* const> used);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceConfig& config() const { return config_; }
  const Endpoint& self() const { return self_; }
  std::size_t ip_bytes_max() const { return ip_bytes_max_; }  // config().mtu, or what fits one memif buffer.
  const Offloads& offloads() const { return offloads_; }
  DeviceCounters& counters() { return counters_; }
  const DeviceCounters& counters() const { return counters_; }

  // Looks at the link when that is due, then at most kBurst packets, valid until the next call. `now` is coarse_now().
  std::size_t receive(std::span<ReceivedPacket> packets, Instant now);
  // What came while its ring was full, by its own count; only where asking never waits: kernel interfaces' devices.
  std::optional<std::uint64_t> missed();
  bool came_up() { return std::exchange(came_up_, false); }  // Since the last call.
  bool is_up() const { return is_up_; }
  std::size_t room() const { return is_up_ ? kQueueMax - queued_ : 0; }
  // A packet to be filled before the next flush(); empty (and counted): dropped.
  std::span<std::byte> append(std::size_t bytes);
  // The same for the headers of a datagram and what follows them: IPv4's checksum is the device's where it writes it.
  // With a `tail`, which is shared and not to change any more, the packet goes on there; where offloads().chained.
  std::span<std::byte> append_datagram(std::size_t bytes, rte_mbuf* tail = nullptr);
  bool is_burst_full() const { return queued_ >= kBurst; }
  void flush();

  // What becomes readable when there may be packets; -1: this device cannot wake anybody.
  int wake_fd() const { return doorbell_ ? doorbell_->fd() : -1; }
  bool is_restless() const;  // Wants to be called again at once, whatever arrives: packets are queued, or its rings are
                             // not to be touched just now.

 private:
  Device(const DeviceConfig& config, std::uint32_t address, rte_mempool* pool)
      : config_(config), pool_(pool), self_{{}, address, config.udp_port, config.vlan} {}

  std::expected<void, Error> find();
  std::expected<void, Error> fit_mtu();
  std::expected<void, Error> set_up();
  std::expected<void, Error> configure();
  std::expected<void, Error> steer();
  bool start();
  void stop();
  rte_mbuf* append_packet(std::size_t bytes, std::size_t bytes_after);
  void prepare();
  void drop(std::size_t at);
  Error error(std::string what, std::string remedy) const;
  bool is_usable() const;  // The rings may be touched now.
  void poll_link(Instant now);
  bool has_link() const;
  void connect(Instant now);
  void drop_queue();
  void on_stall();
  void finish_restart();
  void free_received();

  DeviceConfig config_;
  rte_mempool* pool_;
  Endpoint self_;
  std::uint16_t port_ = 0;
  bool configured_ = false;
  std::uint64_t missed_ = 0;
  bool started_ = false;
  bool is_up_ = false;
  bool came_up_ = false;
  bool is_memif_ = false;
  bool can_restart_ = false;
  unsigned kernel_interface_ = 0;  // Of af_packet and the like: DPDK does not watch its link.
  std::size_t ip_bytes_max_ = 0;
  Offloads offloads_;
  Steering steering_;
  std::unique_ptr<MemifServerProbe> server_;  // A memif client's.
  std::unique_ptr<Doorbell> doorbell_;        // memif's.
  Instant link_polled_{}, link_looked_at_{};
  bool heard_ = false;         // Packets came since link_polled_.
  Instant connected_{};        // When connecting last began,
  Duration connect_period_{};  // and how long that may take.
  Instant stalled_since_{};    // 0: not stalled.
  std::array<rte_mbuf*, kQueueMax> queue_{};
  std::size_t queued_ = 0, prepared_ = 0;  // The driver has looked at the first prepared_ of them.
  std::array<rte_mbuf*, kBurst> received_{};
  std::uint16_t received_count_ = 0;
  DeviceCounters counters_;
  std::atomic<bool> is_restarting_{false};  // Cleared by the thread, which touches nothing but the device.
  std::jthread restart_;
};

}  // namespace slipstream::dataplane
