#include "dataplane/shared_payloads.h"

#include <rte_mbuf.h>

#include "base/bytes.h"

namespace slipstream::dataplane {

rte_mbuf* SharedPayloads::buffer(std::uint64_t number, std::span<const std::byte> payload) {
  const std::size_t at = number % kPlaces;
  Place& place = places_[at];
  if (place.buffer && place.number == number) return place.buffer;
  rte_mbuf* const fresh = rte_pktmbuf_alloc(pool_);
  if (!fresh) return nullptr;
  if (payload.size() > rte_pktmbuf_tailroom(fresh)) {
    rte_pktmbuf_free(fresh);
    return nullptr;
  }
  void* const into = rte_pktmbuf_append(fresh, static_cast<std::uint16_t>(payload.size()));
  copy_bytes(payload, {static_cast<std::byte*>(into), payload.size()});
  if (place.buffer)
    rte_pktmbuf_free(place.buffer);
  else
    used_[used_count_++] = static_cast<std::uint16_t>(at);
  place = {number, fresh};
  return fresh;
}

void SharedPayloads::end_burst() {
  for (std::size_t i = 0; i < used_count_; ++i) {
    rte_pktmbuf_free(places_[used_[i]].buffer);
    places_[used_[i]] = {};
  }
  used_count_ = 0;
}

}  // namespace slipstream::dataplane
