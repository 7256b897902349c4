#include "node/fed_from_memory.h"

#include <algorithm>

namespace slipstream::node {

void FedFromMemory::keep() {
  const LsnRange held = node_.durable_in_ring();
  if (held.begin == held.end)
    return recent_.append(std::max(held.end, recent_.end()), {});  // Between sessions the ring is nobody's.
  for (Lsn at = std::max(held.begin, recent_.end()); at < held.end;) {
    const std::size_t offset = at.value & (ring_.size() - 1);
    const std::size_t bytes = std::min<std::size_t>((held.end - at).value, ring_.size() - offset);
    recent_.append(at, ring_.subspan(offset, bytes));
    at = at + ByteCount{bytes};
  }
}

}  // namespace slipstream::node
