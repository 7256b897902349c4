#include "app/service_notifier.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace slipstream::app {
namespace {

constexpr std::chrono::microseconds kStatusPeriod = std::chrono::seconds(1);

}  // namespace

ServiceNotifier::ServiceNotifier(std::function<std::string()> state) : state_(std::move(state)) {
  if (std::getenv("NOTIFY_SOCKET") == nullptr) return;
  std::uint64_t watchdog_us = 0;
  period_ = kStatusPeriod;
  // Twice as often as asked for, as sd_watchdog_enabled(3) recommends, and once more for a busy machine.
  if (sd_watchdog_enabled(0, &watchdog_us) > 0) period_ = std::min(period_, std::chrono::microseconds(watchdog_us / 3));
  thread_ = std::thread([this] { run(); });
}

void ServiceNotifier::stopping() { (void)sd_notify(0, "STOPPING=1"); }

void ServiceNotifier::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ServiceNotifier::run() {
  pthread_setname_np(pthread_self(), "notifier");
  bool told = false;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    const std::string state = state_();
    // All in one message: ready only when the data thread has answered once.
    const int sent = sd_notify(0, fmt::format("READY=1\nSTATUS={}\nWATCHDOG=1", state).c_str());
    if (sent < 0 && !told) spdlog::warn("the service manager cannot be told: {}", std::strerror(-sent));
    told = sent < 0;
    lock.lock();
    changed_.wait_for(lock, period_, [&] { return stop_; });
  }
}

}  // namespace slipstream::app
