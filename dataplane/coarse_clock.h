#pragma once

#include <time.h>

#include "base/time.h"

namespace slipstream::dataplane {

// Only for what is counted in milliseconds: the coarse clock costs next to nothing.
inline Instant coarse_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return {now.tv_sec * 1'000'000'000 + now.tv_nsec};
}

}  // namespace slipstream::dataplane
