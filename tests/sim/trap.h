#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "tests/sim/trace.h"

namespace slipstream::sim {

// Something that happens once, exactly before or after the n-th step from now that a write or a rename takes: into the
// page cache, onto the storage, to be told of.
class Trap {
 public:
  void set(std::uint64_t steps, std::function<void()> spring) { left_ = steps, spring_ = std::move(spring); }
  void clear() { set(0, nullptr); }
  // Whether it sprang: then nothing is as it was.
  bool step(Common common, std::string_view who, Fault kind) {
    if (left_ == 0 || --left_ > 0) return false;
    common.counts.note(kind);
    common.trace.note(who, "trap");
    std::exchange(spring_, nullptr)();
    return true;
  }

 private:
  std::uint64_t left_ = 0;
  std::function<void()> spring_;
};

}  // namespace slipstream::sim
