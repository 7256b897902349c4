#pragma once

#include <expected>
#include <memory>

#include "app/config.h"
#include "app/file_disk.h"
#include "app/port_log.h"
#include "dataplane/idle.h"
#include "dataplane/network_port.h"
#include "node/io.h"
#include "node/sealed_port.h"
#include "node/snapshot.h"

namespace slipstream::app {

// Whether this host has the devices that the ports name, and none of them is one it needs itself. Touches nothing.
std::expected<void, Error> check_devices(const Config& config);

// This node's ports, with faults around them where the configuration asks for them, sealed; and how its data thread
// idles on them.
class Network {
 public:
  // Opens the ports; starts DPDK if one of them is a device of its.
  static std::expected<Network, Error> open(const Config& config);

  // Sealed, unless the configuration asks for plaintext.
  node::Port& port() { return sealed_ ? static_cast<node::Port&>(*sealed_) : *port_; }
  node::Port& unsealed_port() { return *port_; }
  bool wakes() const { return wakes_; }           // Whatever there is to receive ends the data thread's sleep.
  void describe(node::Snapshot& snapshot) const;  // Adds the ports, and what was refused before the node saw it.

  // The data thread's life, on the calling thread: step(now) until `stop`. May be lived again, with another waker.
  // `deadline()` is the node's. `disk` may be null: no completion of it wakes the thread.
  template <class Step, class Deadline>
  void run(const Config& config, FileDisk* disk, dataplane::Waker& waker, Step step, Deadline deadline,
           const std::atomic<bool>& stop) {
    const dataplane::ThreadAsBefore before;
    dataplane::IdleStrategy idle = prepare(config, disk, waker);
    const auto turn_at = [&](Instant now) {
      return inner_->is_restless() ? now : std::max(deadline(), now + kShortestSleep);
    };
    const auto turn = [&](Instant now) {
      if (looked_ == Instant{}) looked_ = now;  // Links were not looked at yet.
      if (now - looked_ > seconds(1)) look(now);
      return step(now);
    };
    dataplane::run_loop(turn, turn_at, idle, waker, stop);
  }

 private:
  static constexpr Duration kShortestSleep = microseconds(50);

  void add_faults(const FaultConfig& faults);
  void look(Instant now);  // Logs what happened to the ports.
  dataplane::IdleStrategy prepare(const Config& config, FileDisk* disk, dataplane::Waker& waker) const;

  std::unique_ptr<node::Port> port_;
  std::unique_ptr<node::SealedPort> sealed_;
  const dataplane::NetworkPort* inner_ = nullptr;
  bool wakes_ = false;
  PortLog log_;
  Instant looked_{};
};

}  // namespace slipstream::app
