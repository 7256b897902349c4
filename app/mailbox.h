#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <mutex>
#include <utility>
#include <vector>

namespace slipstream::app {

// Work that ordinary threads want done on the data thread, between two turns: how status is read and a fence given
// without a lock in the node. call() may be used by any thread but the data thread; drain() is the data thread's, one
// relaxed load when there is nothing.
class Mailbox {
 public:
  explicit Mailbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Runs `work` on the data thread and returns its result.
  template <class Work>
  auto call(Work work) {
    using Result = decltype(work());
    std::packaged_task<Result()> task(std::move(work));
    auto result = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      if (closed_)
        std::move(task)();
      else
        queue_.emplace_back([&task] { task(); });
      pending_.store(true, std::memory_order_release);
    }
    wake_();
    return result.get();
  }

  bool drain() {
    if (!pending_.load(std::memory_order_acquire)) return false;
    std::vector<std::function<void()>> work;
    {
      // Never waits for a caller that lost its core while it held the lock: it wakes this thread when it has let go.
      const std::unique_lock lock(mutex_, std::try_to_lock);
      if (!lock) return false;
      work.swap(queue_);
      pending_.store(false, std::memory_order_release);
    }
    for (const auto& each : work) each();
    return true;
  }

  // The data thread has ended: later calls run on their caller.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (const auto& each : queue_) each();
    queue_.clear();
  }

 private:
  std::function<void()> wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> queue_;
  std::atomic<bool> pending_{false};
  bool closed_ = false;
};

}  // namespace slipstream::app
