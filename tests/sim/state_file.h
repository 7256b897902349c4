#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "tests/sim/random.h"

namespace slipstream::sim {

// A file that is replaced whole: renamed into place first, durable some time later.
class StateFile {
 public:
  void make(std::vector<std::byte> content) { visible_ = durable_ = std::move(content); }
  void rename(std::vector<std::byte> content) { visible_ = std::move(content); }
  void sync() { durable_ = visible_; }
  // Whether the newest content was lost.
  bool power_lost(Random& random) {
    if (visible_ == durable_) return false;
    if (random.chance(0.5)) durable_ = visible_;
    const bool lost = visible_ != durable_;
    visible_ = durable_;
    return lost;
  }
  const std::vector<std::byte>& visible() const { return visible_; }
  const std::vector<std::byte>& durable() const { return durable_; }

 private:
  std::vector<std::byte> visible_, durable_;
};

}  // namespace slipstream::sim
