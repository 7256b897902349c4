#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/lsn.h"

namespace slipstream::ack {

constexpr std::size_t kReplicasMax = 16;  // In one cluster, so in one policy too.

// How far a byte has come on a replica. PostgreSQL waits for them as remote_write, on (flush), remote_apply.
enum class Level : std::uint8_t {
  kReceived,  // Verified, in the memory of the replica's daemon.
  kDurable,   // On the replica's stable storage.
  kApplied,   // Replayed by the replica's standby.
};
constexpr std::size_t kLevels = 3;
constexpr std::array<Level, kLevels> kAllLevels{Level::kReceived, Level::kDurable, Level::kApplied};
std::string_view to_string(Level level);

// One end per level.
struct Ends {
  std::array<Lsn, kLevels> at{};
  constexpr Lsn& operator[](Level level) { return at[static_cast<std::size_t>(level)]; }
  constexpr Lsn operator[](Level level) const { return at[static_cast<std::size_t>(level)]; }
  constexpr bool operator==(const Ends&) const = default;
};

}  // namespace slipstream::ack
