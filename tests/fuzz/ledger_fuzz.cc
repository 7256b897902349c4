#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/digest.h"
#include "wal/ledger.h"

namespace {

// What is read is written back as the same bytes: the format has one spelling of each ledger.
void decode(std::span<const std::byte> file) {
  using namespace slipstream;
  const auto ledger = wal::decode_ledger(file, "ledger");
  if (!ledger) {
    CHECK(ledger.error().code == ExitCode::kDirectory && !ledger.error().remedy.empty());
    return;
  }
  CHECK(std::ranges::equal(wal::encode(*ledger), file));
}

}  // namespace

// Once as it is, and once as the body of a file whose length and checksum are right, or no input would ever come that
// far.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream;
  const auto input = std::as_bytes(std::span(data, size));
  decode(input);
  std::vector<std::byte> file(16 + size + 16);
  ByteWriter writer(file);
  writer.text("SLIPLEDG");
  writer.le(std::uint32_t{1});
  writer.le(static_cast<std::uint32_t>(size));
  writer.bytes(input);
  const Digest128 digest = xxh3_128(writer.written());
  writer.le(digest.high);
  writer.le(digest.low);
  decode(file);
  return 0;
}
