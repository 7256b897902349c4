#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "base/lsn.h"
#include "tests/sim/counts.h"
#include "tests/sim/scheduler.h"

namespace slipstream::sim {

// What happened, in order: always as a hash (equal for equal runs), on request as lines to read. Also keeps the first
// violation.
class Trace {
 public:
  Trace(const Scheduler& scheduler, bool shown) : scheduler_(scheduler), shown_(shown) {}

  void note(std::string_view who, std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0) {
    for (const char c : who) mix(static_cast<std::uint64_t>(c));
    for (const char c : what) mix(static_cast<std::uint64_t>(c));
    mix(static_cast<std::uint64_t>(scheduler_.now().ns)), mix(a), mix(b);
    if (shown_) show(who, fmt::format("{} {:X} {:X}", what, a, b));
  }
  // Only for people: not in the hash.
  template <class... Arguments>
  void say(std::string_view who, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (shown_) show(who, fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  template <class... Arguments>
  void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (failed()) return;
    violation_ =
        fmt::format("at {:.6f} s: {}", seconds_now(), fmt::format(format, std::forward<Arguments>(arguments)...));
    if (shown_) show("VIOLATION", violation_);
  }
  bool failed() const { return !violation_.empty(); }
  const std::string& violation() const { return violation_; }
  std::uint64_t hash() const { return hash_; }
  bool shown() const { return shown_; }

 private:
  double seconds_now() const { return static_cast<double>(scheduler_.now().ns) / 1e9; }
  void show(std::string_view who, const std::string& line) {
    fmt::print("{:.6f} {:<8} {}\n", seconds_now(), who, line);
  }
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x9fb21c651e98df25, hash_ ^= hash_ >> 32; }

  const Scheduler& scheduler_;
  bool shown_;
  std::uint64_t hash_ = 0x5117;
  std::string violation_;
};

// What every part of the simulated world shares.
struct Common {
  Scheduler& scheduler;
  Counts& counts;
  Trace& trace;
  Instant now() const { return scheduler.now(); }
};

}  // namespace slipstream::sim
