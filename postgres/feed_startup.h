#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "postgres/feed_messages.h"

namespace slipstream::postgres {

constexpr std::size_t kStartupBytesMax = 10000;  // PostgreSQL's MAX_STARTUP_PACKET_LENGTH.

// The packet that opens a connection, which has no tag: a request for encryption, a cancellation, or the start itself.
struct FeedStartup {
  enum class Kind : std::uint8_t { kEncryption, kCancel, kStart } kind = Kind::kStart;
  std::uint32_t minor = 0;
  std::string user;
  std::string application_name;
  std::string replication;
  std::vector<std::string> unknown_options;  // "_pq_." options, all of which are unknown to us.
};

// `packet` is the whole packet, its length included. Pure.
std::expected<FeedStartup, FeedError> parse_startup(std::span<const std::byte> packet);

}  // namespace slipstream::postgres
