#include "protocol/verdict.h"

#include <array>

namespace slipstream::protocol {

std::string_view to_string(Verdict verdict) {
  static constexpr std::array<std::string_view, kVerdicts> kNames{
      "accepted",     "duplicate",     "truncated", "oversized",     "magic",        "version",      "unknown_kind",
      "skipped",      "reserved_bits", "checksum",  "other_cluster", "other_stream", "unknown_node", "stale_epoch",
      "future_epoch", "other_session", "bad_range", "bad_ack",       "bad_field",    "unexpected",   "sealed",
      "not_sealed",   "unknown_key",   "replayed",  "forged",        "bad_cookie",   "not_the_peer"};
  const auto index = static_cast<std::size_t>(verdict);
  return index < kNames.size() ? kNames[index] : "unknown";
}

}  // namespace slipstream::protocol
