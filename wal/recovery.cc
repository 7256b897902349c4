#include "wal/recovery.h"

#include <algorithm>
#include <vector>

namespace slipstream::wal {

bool read_whole(SegmentSource& source, Lsn at, std::span<std::byte> out) {
  for (std::size_t have = 0; have < out.size();) {
    const std::size_t got = source.read(at + ByteCount{have}, out.subspan(have));
    if (got == 0) return false;
    have += got;
  }
  return true;
}

Recovered recover(SegmentSource& source, SegmentLayout layout, Lsn begin, Scanner::Start start, Scanner::Expect expect,
                  Lsn limit) {
  Scanner scanner(layout, begin, start, expect);
  std::vector<std::byte> buffer(1 << 18);
  Lsn at = begin;
  while (scanner.fault() == ScanFault::kNone && at < limit) {
    const std::uint64_t left = (std::min(limit, layout.segment_end(at)) - at).value;
    const std::size_t wanted = left < buffer.size() ? static_cast<std::size_t>(left) : buffer.size();
    const std::size_t got = source.read(at, std::span(buffer).first(wanted));
    if (got == 0) break;
    scanner.on_bytes(std::span(buffer).first(got));
    at = at + ByteCount{got};
  }
  Recovered out{scanner.valid_end(), scanner.record_begin(), scanner.records() == 0 ? start : scanner.next_start(),
                scanner.fault(), scanner.scanned_end()};
  if (out.stopped_by == ScanFault::kNone) out.stopped_by = ScanFault::kEnd;
  return out;
}

}  // namespace slipstream::wal
