#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/lsn.h"

// What stands inside the CopyData messages of PostgreSQL's streaming replication (its documentation, "Streaming
// Replication Protocol"), both ways, as the one who reads it needs it: big-endian, microseconds since 2000-01-01.
// BackendMessages writes the server's.
namespace slipstream::postgres {

struct XLogData {  // 'w'
  Lsn start;
  Lsn wal_end;  // The sender's flushed position.
  std::int64_t time_us = 0;
  std::span<const std::byte> payload;
};
struct Keepalive {  // 'k'
  Lsn wal_end;
  std::int64_t time_us = 0;
  bool reply_requested = false;
};
struct StandbyStatus {  // 'r'
  Lsn write, flush, apply;
  std::int64_t time_us = 0;
  bool reply_requested = false;
};
struct HotStandbyFeedback {  // 'h'
  std::int64_t time_us = 0;
  std::uint32_t xmin = 0, xmin_epoch = 0, catalog_xmin = 0, catalog_xmin_epoch = 0;  // xmin 0: none.
};

std::optional<XLogData> decode_xlog_data(std::span<const std::byte> message);
std::optional<Keepalive> decode_keepalive(std::span<const std::byte> message);
std::optional<StandbyStatus> decode_standby_status(std::span<const std::byte> message);
std::optional<HotStandbyFeedback> decode_feedback(std::span<const std::byte> message);
std::vector<std::byte> encode(const StandbyStatus& status);
std::vector<std::byte> encode(const HotStandbyFeedback& feedback);

std::int64_t now_us();  // Wall clock in the protocol's terms, for fields that only people read.

}  // namespace slipstream::postgres
