#pragma once

#include <atomic>
#include <cstdint>

namespace slipstream::dataplane {

// Keeps DPDK's interrupt thread and a data thread apart. memif's control messages are handled on that thread, and when
// a peer dies it unmaps the rings at once, under the hands of a data thread that is just copying to them: that ends the
// process. So the interrupt thread is held in an alarm callback of ours, and let go only for moments in which the data
// thread leaves memif alone.
// Guarantees: (1) While is_held(), no control message is handled and no link changes. (2) release() lets everything
// that waits be handled, in about 50 us or whatever it takes; afterwards the thread is held again. (3) Nothing here
// waits, but for the interrupt thread. Ownership: one per process, never destroyed, since the interrupt thread ends
// with the process. Threading: all members are called by the data thread.
class ControlGate {
 public:
  static ControlGate& instance();

  bool begin();  // After DPDK's start; false: no memory for an alarm.
  bool is_held() const { return held_.load(std::memory_order_acquire); }
  void release();  // Only while is_held().

 private:
  ControlGate() = default;
  static void on_alarm(void* gate);  // DPDK's interrupt thread.
  void hold();

  bool begun_ = false;
  std::atomic<bool> held_{false};
};

}  // namespace slipstream::dataplane
