#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>

#include "base/error.h"

namespace slipstream::app {

struct StandbyMinderOptions {
  std::string standby_conninfo;
  std::string feed_host;  // Our feed's socket directory and port, as the standby's primary_conninfo has them.
  std::uint16_t feed_port = 0;
  std::chrono::seconds patience{3};  // How long the standby may be without us before it is looked at.
};

// A standby with a fallback (init-standby --fallback) streams from the primary itself while our feed is away, and would
// stay there. Brings it back: when the feed has been up without it for a while, the standby is asked where it streams
// from, and if that is not our feed its walreceiver is ended, so that the next one tries our feed first.
class StandbyMinder {
 public:
  explicit StandbyMinder(StandbyMinderOptions options) : options_(std::move(options)) {}

  // Once a second or so, on a thread that may wait. `away`: our feed could serve the standby, which is not there. What
  // was done or found, to be logged; nothing most of the time.
  std::optional<std::string> look(bool away, std::chrono::steady_clock::time_point now);

 private:
  std::optional<std::string> bring_back();

  const StandbyMinderOptions options_;
  std::optional<std::chrono::steady_clock::time_point> away_since_;
  std::string said_;  // A problem is said once.
};

// Ends that walreceiver: only a process of this host whose command line says that it is one. Errors: kDatabase.
std::expected<void, Error> end_walreceiver(std::int64_t pid);

}  // namespace slipstream::app
