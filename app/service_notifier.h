#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace slipstream::app {

// Tells a service manager how the daemon is (sd_notify(3)): that it is ready, what it does, that it stops; and, when a
// watchdog is set (WatchdogSec=), that its data thread still turns. Does nothing when no manager asks (NOTIFY_SOCKET).
// `state` is asked of the data thread, on a thread of ours, and may wait for it: a data thread that hangs answers no
// more, so that the watchdog runs out and the manager starts the daemon anew. Threading: `state` must be able to return
// when stop() is called.
class ServiceNotifier {
 public:
  explicit ServiceNotifier(std::function<std::string()> state);
  ~ServiceNotifier() { stop(); }
  ServiceNotifier(const ServiceNotifier&) = delete;
  ServiceNotifier& operator=(const ServiceNotifier&) = delete;

  static void stopping();  // An orderly stop has begun.
  void stop();

 private:
  void run();

  const std::function<std::string()> state_;
  std::chrono::microseconds period_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;  // Guarded by mutex_.
  std::thread thread_;
};

}  // namespace slipstream::app
