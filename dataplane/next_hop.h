#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"
#include "dataplane/packet.h"

namespace slipstream::dataplane {

// Who takes a peer's packets on the link: the peer itself when it is a neighbour, else the gateway on the way to it.
// Guarantees: (1) A configured MAC address is never changed. (2) Otherwise the newest one heard counts, and one not
// heard of for kFresh is asked for again, every kAskPeriod, while the old one goes on being used. (3) Of a gateway only
// ARP speaks: what the peer sends may come from another router.
class NextHop {
 public:
  static constexpr Duration kAskPeriod = milliseconds(200), kFresh = seconds(30);

  NextHop() = default;
  NextHop(std::uint32_t address, bool is_gateway, std::optional<MacAddress> configured)
      : address_(address), is_gateway_(is_gateway), asks_(!configured), mac_(configured) {}

  std::uint32_t address() const { return address_; }
  // A neighbour that is not known yet hears what is sent to all; no router forwards such a packet.
  bool is_reachable() const { return mac_ || !is_gateway_; }
  MacAddress mac() const { return mac_.value_or(kBroadcast); }

  void on_arp(std::uint32_t from, const MacAddress& mac, Instant now) { hear(from, mac, now); }
  void on_datagram(std::uint32_t from, const MacAddress& mac, Instant now) {
    if (!is_gateway_) hear(from, mac, now);
  }
  // Whether to ask for its MAC address now; the asking is then taken for done.
  bool asks(Instant now) {
    if (!asks_ || (mac_ && now - heard_ < kFresh) || (asked_ && now - *asked_ < kAskPeriod)) return false;
    asked_ = now;
    return true;
  }

 private:
  void hear(std::uint32_t from, const MacAddress& mac, Instant now) {
    const bool is_group = (mac.front() & std::byte{1}) != std::byte{0};  // Nobody's address.
    if (!asks_ || from != address_ || is_group) return;
    mac_ = mac;
    heard_ = now;
  }

  std::uint32_t address_ = 0;
  bool is_gateway_ = false;
  bool asks_ = true;
  std::optional<MacAddress> mac_;
  Instant heard_{};               // When mac_ was last heard of.
  std::optional<Instant> asked_;  // When it was last asked for.
};

}  // namespace slipstream::dataplane
