#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/check.h"
#include "postgres/sync_names.h"
#include "postgres/wire.h"

// What a server says: a message of its stream is understood within its bounds or refused; its synchronous_standby_names
// contains us whatever else it holds, or not.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream::postgres;
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto wal = decode_xlog_data(bytes))
    CHECK(wal->payload.size() < size && (wal->payload.empty() || &wal->payload.back() == &bytes.back()));
  (void)decode_keepalive(bytes);
  if (const auto status = decode_standby_status(bytes)) CHECK(decode_standby_status(encode(*status)).has_value());
  if (const auto feedback = decode_feedback(bytes)) CHECK(decode_feedback(encode(*feedback)).has_value());
  (void)names_always_contain({reinterpret_cast<const char*>(data), size}, "slipstream");
  return 0;
}
