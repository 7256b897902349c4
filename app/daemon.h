#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

#include "app/config.h"
#include "base/error.h"

namespace slipstream::app {

// Run until `stop`; both put the parts together and own them. Errors come before anything was started, or end it.
std::expected<void, Error> run_primary(const Config& config, std::optional<std::uint32_t> claim_term,
                                       const std::atomic<bool>& stop);
std::expected<void, Error> run_replica(const Config& config, const std::atomic<bool>& stop);

std::uint64_t random_u64();  // From the kernel.

}  // namespace slipstream::app
