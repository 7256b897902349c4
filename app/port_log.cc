#include "app/port_log.h"

#include <fmt/format.h>

#include <bit>

namespace slipstream::app {

std::vector<std::string> PortLog::look(const std::vector<node::PortView>& ports) {
  std::vector<std::string> out;
  seen_.resize(ports.size());
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const node::PortView &now = ports[i], &before = seen_[i];
    const auto say = [&](std::string what) { out.push_back(fmt::format("port \"{}\": {}", now.name, what)); };
    if (now.link_losses > before.link_losses)
      say(fmt::format("its link was lost{} ({} times so far)", now.up ? ", and is up again" : "", now.link_losses));
    else if (now.up && !before.up)
      say("its link is up");
    else if (!now.up && before.up)
      say("its link is down");
    // A peer that stands still stalls memif twice a second: told the first time, and as the number doubles.
    if (std::bit_width(now.stalls) > std::bit_width(before.stalls))
      say(fmt::format("its device took no packet for half a second, so its queue was reset ({} times so far)",
                      now.stalls));
  }
  seen_ = ports;
  return out;
}

}  // namespace slipstream::app
