#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "dataplane/neighbour.h"
#include "dataplane/packet.h"

namespace {

using namespace slipstream::dataplane;

// Untagged, and in VLAN 42.
constexpr Endpoint kSelves[] = {{{std::byte{2}}, 0x0a4d0001, 7650}, {{std::byte{2}}, 0x0a4d0001, 7650, 42}};

void look(std::span<const std::byte> packet, const Endpoint& self) {
  const auto datagram = open_packet(packet, self);
  if (datagram) {
    CHECK(!datagram->frame.empty() && datagram->frame.data() == packet.data() + datagram->offset);
    CHECK(datagram->offset >= packet_header_bytes(self.vlan));
    CHECK(datagram->frame.size() <= packet.size() - datagram->offset);
  }
  if (const auto sender = arp_sender(packet, self.vlan)) CHECK(sender->address != 0);
  if (size_that_passes(packet, self)) CHECK(!datagram);
  std::array<std::byte, kAnswerBytesMax> memory, again;
  const auto reply = answer(packet, self, memory);
  if (reply.empty()) return;
  CHECK(!datagram && reply.size() <= packet.size());
  CHECK(answer(reply, self, again).empty());
}

}  // namespace

// Whatever comes off the wire: a frame lies within its packet; an answer is no larger than what it answers, and answers
// nothing itself; an answer or a frame, not both.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::byte> packet(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
  for (const Endpoint& self : kSelves) look(packet, self);
  return 0;
}
