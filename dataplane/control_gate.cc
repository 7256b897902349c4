#include "dataplane/control_gate.h"

#include <rte_alarm.h>

#include "base/check.h"

namespace slipstream::dataplane {
namespace {

constexpr std::uint64_t kOpenUs = 20;  // Pending control messages are handled in this time; new ones have to wait.

}  // namespace

ControlGate& ControlGate::instance() {
  static ControlGate* const gate = new ControlGate;
  return *gate;
}

bool ControlGate::begin() {
  if (!begun_) begun_ = rte_eal_alarm_set(kOpenUs, on_alarm, this) == 0;
  return begun_;
}

void ControlGate::release() {
  CHECK(is_held());
  held_.store(false, std::memory_order_release);
  held_.notify_one();
}

void ControlGate::on_alarm(void* gate) { static_cast<ControlGate*>(gate)->hold(); }

void ControlGate::hold() {
  held_.store(true, std::memory_order_release);
  held_.wait(true, std::memory_order_acquire);
  // The next alarm comes after what became ready meanwhile: the interrupt thread looks at all its sources in turn.
  // Without one (no memory) the data thread sees memif as closed.
  (void)rte_eal_alarm_set(kOpenUs, on_alarm, this);
}

}  // namespace slipstream::dataplane
