#include "ack/level.h"

namespace slipstream::ack {

std::string_view to_string(Level level) {
  switch (level) {
    case Level::kReceived:
      return "received";
    case Level::kDurable:
      return "durable";
    case Level::kApplied:
      return "applied";
  }
  return "unknown";
}

}  // namespace slipstream::ack
