#pragma once

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/time.h"

namespace slipstream::dataplane {

// What ends a data thread's sleep: notify() by other threads (one atomic exchange unless the thread sleeps), and
// descriptors that become readable.
class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  // Where `tell` is given, the descriptor need tell of news only while tell(true) was the last call; it says false when
  // there is news already.
  using Tell = std::function<bool(bool on)>;
  // An eventfd or a UNIX datagram socket (a bell), non-blocking: a sleep that it ends reads it empty. Or another
  // socket, whose datagrams are left to whoever receives them. At most kWatchedMax, with those of watch_only().
  void watch(int fd, Tell tell = {});
  // Any descriptor: what it holds is left to whoever takes from it, which must happen each turn, or no sleep lasts.
  void watch_only(int fd);
  // The same of a descriptor that may be another one at each sleep (-1: none); `came` is told when it was readable.
  void watch_only(std::function<int()> fd, std::function<void()> came);
  void notify();                 // Any thread.
  void sleep(Duration at_most);  // The data thread.

 private:
  static constexpr std::size_t kWatchedMax = 31;
  enum class Kind : std::uint8_t { kEvent, kBell, kLeft };
  struct Watched {
    Kind kind = Kind::kEvent;
    Tell tell;
    std::function<int()> fd{};
    std::function<void()> came{};
  };
  void add(int fd, Watched watched);
  static void drain(int fd, Kind kind);
  bool tell(bool on) const;
  void wait(Duration at_most);

  int event_;
  std::vector<pollfd> polled_;  // First the event.
  std::vector<Watched> watched_;
  std::atomic<bool> notified_{false};
  std::atomic<bool> sleeping_{false};
};

// What a data thread does when a turn found nothing to do. Spinning: it goes on. Woken (everything that brings work
// also wakes): it sleeps almost at once, for as long as the nodes' timers allow. Polled (most DPDK devices cannot wake
// us): it goes on for a moment, lets others run, then sleeps for longer and longer, short ones for longer the longer
// the last busy stretch was; the longest sleep bounds the first reaction.
class IdleStrategy {
 public:
  enum class Mode : std::uint8_t { kSpin, kWoken, kPolled };
  enum class Action : std::uint8_t { kPoll, kYield, kSleep };
  struct Choice {
    Action action = Action::kPoll;
    Duration sleep{};
  };

  explicit IdleStrategy(Mode mode) : mode_(mode) {}
  Mode mode() const { return mode_; }
  Choice choose(bool worked, Instant now);

 private:
  Choice choose_polled(Duration idle) const;

  Mode mode_;
  Instant busy_since_{}, last_work_{};
};

Instant monotonic_now();  // CLOCK_MONOTONIC
int usable_cores();
void prepare_data_thread(int core);  // Pins it to `core` (-1: not), and makes short sleeps short.

// What prepare_data_thread() changes of the calling thread is as before when this ends: threads that it starts later,
// as when a directory is opened anew, inherit nothing of it.
class ThreadAsBefore {
 public:
  ThreadAsBefore();
  ~ThreadAsBefore();
  ThreadAsBefore(const ThreadAsBefore&) = delete;
  ThreadAsBefore& operator=(const ThreadAsBefore&) = delete;

 private:
  cpu_set_t cores_;
  int slack_ns_;
};

// Turns until `stop`: `step(now)` says whether anything happened, `deadline(now)` when it wants the next turn at the
// latest.
template <class Step, class Deadline>
void run_loop(Step step, Deadline deadline, IdleStrategy& idle, Waker& waker, const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
    const Instant now = monotonic_now();
    const IdleStrategy::Choice choice = idle.choose(step(now), now);
    if (choice.action == IdleStrategy::Action::kSleep)
      waker.sleep(std::min(choice.sleep, deadline(now) - now));
    else if (choice.action == IdleStrategy::Action::kYield)
      waker.sleep({0});
  }
}

}  // namespace slipstream::dataplane
