#include "dataplane/idle.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace slipstream::dataplane {
namespace {

// With few cores the database runs on the same ones: polling is short, and giving way starts early.
constexpr Duration kPollFor = microseconds(20);
constexpr Duration kYieldFor = microseconds(200);
constexpr Duration kShortSleepsFor = milliseconds(20);
constexpr Duration kShortSleep = microseconds(30);
constexpr Duration kMediumSleepsFor = milliseconds(500);
constexpr Duration kMediumSleep = microseconds(150);
constexpr Duration kLongSleep = microseconds(500);

}  // namespace

Waker::Waker() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
Waker::~Waker() { close(event_); }

void Waker::notify() {
  if (notified_.exchange(true, std::memory_order_seq_cst)) return;
  if (!sleeping_.load(std::memory_order_seq_cst)) return;
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

void Waker::sleep(Duration at_most) {
  if (notified_.exchange(false, std::memory_order_seq_cst)) return;
  if (at_most.ns <= 0) {
    sched_yield();
    return;
  }
  sleeping_.store(true, std::memory_order_seq_cst);
  if (!notified_.load(std::memory_order_seq_cst)) {
    pollfd wait{event_, POLLIN, 0};
    const timespec timeout{at_most.ns / 1'000'000'000, at_most.ns % 1'000'000'000};
    if (ppoll(&wait, 1, &timeout, nullptr) > 0) {
      std::uint64_t count = 0;
      (void)!read(event_, &count, sizeof count);
    }
  }
  sleeping_.store(false, std::memory_order_seq_cst);
  notified_.store(false, std::memory_order_seq_cst);
}

IdleStrategy::Choice IdleStrategy::choose(bool worked, Instant now) {
  if (worked) last_work_ = now;
  if (mode_ == Mode::kSpin || worked) return {};
  const Duration idle = now - last_work_;
  if (idle < kPollFor) return {};
  if (idle < kYieldFor) return {Action::kYield, {}};
  if (idle < kShortSleepsFor) return {Action::kSleep, kShortSleep};
  return {Action::kSleep, idle < kMediumSleepsFor ? kMediumSleep : kLongSleep};
}

Instant monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return {now.tv_sec * 1'000'000'000 + now.tv_nsec};
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

void prepare_data_thread(int core) {
  prctl(PR_SET_TIMERSLACK, 1UL);
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace slipstream::dataplane
