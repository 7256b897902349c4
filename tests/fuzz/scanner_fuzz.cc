#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "wal/scanner.h"

namespace {

using namespace slipstream;
using namespace slipstream::wal;

constexpr Lsn kBegin{10u << 20};

struct Seen {
  Lsn valid_end, scanned_end, apply_awaited_end;
  ScanFault fault = ScanFault::kNone;
  bool operator==(const Seen&) const = default;
};

Seen scan(std::span<const std::byte> bytes, Scanner::Start start, std::size_t cut) {
  Scanner scanner(SegmentLayout(ByteCount{1u << 20}), kBegin, start, {});
  Lsn valid = scanner.valid_end();
  for (std::size_t at = 0; at < bytes.size(); at += cut) {
    scanner.on_bytes(bytes.subspan(at, std::min(cut, bytes.size() - at)));
    CHECK(scanner.valid_end() >= valid && scanner.valid_end() <= kBegin + ByteCount{bytes.size()});
    valid = scanner.valid_end();
  }
  return {scanner.valid_end(), scanner.scanned_end(), scanner.apply_awaited_end(), scanner.fault()};
}

}  // namespace

// Whatever the bytes, what is found valid lies within them, never falls, and does not depend on how they are cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  for (const auto start : {Scanner::Start::kRecord, Scanner::Start::kPage}) {
    const Seen whole = scan(bytes, start, std::max<std::size_t>(size, 1));
    CHECK(scan(bytes, start, 7) == whole && scan(bytes, start, 4096) == whole);
  }
  return 0;
}
