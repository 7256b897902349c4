#include "dataplane/idle.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "base/check.h"

namespace slipstream::dataplane {
namespace {

// Of a thread that everything wakes: an io_uring completion or a peer's answer is further away than that.
constexpr Duration kWokenPollFor = microseconds(5);
constexpr Duration kWokenSleep = milliseconds(10);

// Of a thread that has to look. With few cores the database runs on the same ones: polling is short, and giving way
// starts early.
constexpr Duration kPollFor = microseconds(20);
constexpr Duration kYieldFor = microseconds(100);
constexpr Duration kShortSleep = microseconds(30), kMediumSleep = microseconds(150), kLongSleep = milliseconds(1);
constexpr Duration kShortSleepsMin = microseconds(500), kShortSleepsMax = milliseconds(20);
constexpr std::int64_t kMediumSleepsTimes = 4;     // Of how long the short ones went on.
constexpr Duration kStretchGap = milliseconds(1);  // A longer one ends a busy stretch.

}  // namespace

Waker::Waker() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { watch(event_); }
Waker::~Waker() { close(event_); }

void Waker::watch(int fd, Tell tell) {
  int domain = 0;
  socklen_t size = sizeof domain;
  const bool socket = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0;
  add(fd, {!socket ? Kind::kEvent : domain == AF_UNIX ? Kind::kBell : Kind::kLeft, std::move(tell), {}, {}});
}

void Waker::watch_only(int fd) { add(fd, {Kind::kLeft, {}, {}, {}}); }

void Waker::watch_only(std::function<int()> fd, std::function<void()> came) {
  add(-1, {Kind::kLeft, {}, std::move(fd), std::move(came)});
}

void Waker::add(int fd, Watched watched) {
  CHECK(watched_.size() <= kWatchedMax);
  polled_.push_back({fd, POLLIN, 0});
  watched_.push_back(std::move(watched));
  if (watched_.back().tell) watched_.back().tell(false);
}

void Waker::notify() {
  if (notified_.exchange(true, std::memory_order_seq_cst)) return;
  if (!sleeping_.load(std::memory_order_seq_cst)) return;
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

void Waker::drain(int fd, Kind kind) {
  constexpr unsigned kDatagramsMax = 32;  // Whoever rings faster than that keeps us awake anyway.
  std::array<mmsghdr, kDatagramsMax> datagrams{};
  std::uint64_t count = 0;
  if (kind == Kind::kBell)
    (void)recvmmsg(fd, datagrams.data(), kDatagramsMax, MSG_DONTWAIT, nullptr);
  else if (kind == Kind::kEvent)
    (void)!read(fd, &count, sizeof count);
}

bool Waker::tell(bool on) const {
  bool nothing_yet = true;
  for (const Watched& each : watched_)
    if (each.tell) nothing_yet &= each.tell(on);
  return nothing_yet;
}

void Waker::wait(Duration at_most) {
  for (std::size_t i = 0; i < polled_.size(); ++i)
    if (watched_[i].fd) polled_[i].fd = watched_[i].fd();
  const timespec timeout{at_most.ns / 1'000'000'000, at_most.ns % 1'000'000'000};
  if (ppoll(polled_.data(), polled_.size(), &timeout, nullptr) <= 0) return;
  for (std::size_t i = 0; i < polled_.size(); ++i)
    if (polled_[i].revents != 0) {
      drain(polled_[i].fd, watched_[i].kind);
      if (watched_[i].came) watched_[i].came();
    }
}

void Waker::sleep(Duration at_most) {
  if (notified_.exchange(false, std::memory_order_seq_cst)) return;
  if (at_most.ns <= 0) {
    sched_yield();
    return;
  }
  sleeping_.store(true, std::memory_order_seq_cst);
  if (tell(true) && !notified_.load(std::memory_order_seq_cst)) wait(at_most);
  tell(false);
  sleeping_.store(false, std::memory_order_seq_cst);
  notified_.store(false, std::memory_order_seq_cst);
}

IdleStrategy::Choice IdleStrategy::choose(bool worked, Instant now) {
  if (worked) {
    if (now - last_work_ > kStretchGap) busy_since_ = now;
    last_work_ = now;
  }
  if (mode_ == Mode::kSpin || worked) return {};
  const Duration idle = now - last_work_;
  if (mode_ == Mode::kPolled) return choose_polled(idle);
  return idle < kWokenPollFor ? Choice{} : Choice{Action::kSleep, kWokenSleep};
}

IdleStrategy::Choice IdleStrategy::choose_polled(Duration idle) const {
  if (idle < kPollFor) return {};
  if (idle < kYieldFor) return {Action::kYield, {}};
  const Duration short_sleeps = std::clamp((last_work_ - busy_since_) * 4, kShortSleepsMin, kShortSleepsMax);
  if (idle < short_sleeps) return {Action::kSleep, kShortSleep};
  return {Action::kSleep, idle < short_sleeps * kMediumSleepsTimes ? kMediumSleep : kLongSleep};
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

ThreadAsBefore::ThreadAsBefore() : slack_ns_(prctl(PR_GET_TIMERSLACK)) {
  if (sched_getaffinity(0, sizeof cores_, &cores_) != 0) CPU_ZERO(&cores_);
}

ThreadAsBefore::~ThreadAsBefore() {
  if (CPU_COUNT(&cores_) > 0) (void)sched_setaffinity(0, sizeof cores_, &cores_);
  if (slack_ns_ > 0) (void)prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(slack_ns_));
}

}  // namespace slipstream::dataplane
