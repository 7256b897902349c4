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

constexpr Endpoint kSelf{{std::byte{2}}, 0x0a4d0001, 7650};

}  // namespace

// Whatever comes off the wire: a frame lies within its packet; an answer is no larger than what it answers, and answers
// nothing itself; an answer or a frame, not both.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                    reinterpret_cast<const std::byte*>(data) + size);
  const std::span packet(copy);
  const auto datagram = open_packet(packet, kSelf);
  if (datagram) {
    CHECK(!datagram->frame.empty() && datagram->frame.data() == packet.data() + kPacketHeaderBytes);
    CHECK(datagram->frame.size() <= packet.size() - kPacketHeaderBytes);
  }
  if (const auto sender = arp_sender(packet)) CHECK(sender->address != 0);
  std::array<std::byte, kAnswerBytesMax> memory, again;
  const auto reply = answer(packet, kSelf, memory);
  if (reply.empty()) return 0;
  CHECK(!datagram && reply.size() <= packet.size());
  CHECK(answer(reply, kSelf, again).empty());
  return 0;
}
