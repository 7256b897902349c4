#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/digest.h"
#include "node/state_file.h"

namespace {

// What is read is written back and read again as the same.
void decode(std::span<const std::byte> file) {
  using namespace slipstream;
  const auto state = node::decode_state(file, "state");
  if (!state) {
    CHECK(state.error().code == ExitCode::kDirectory && !state.error().remedy.empty());
    return;
  }
  const auto again = node::decode_state(node::encode(*state), "state");
  CHECK(again.has_value() && *again == *state);
}

}  // namespace

// Once as it is, and once as the fields of a file whose length and checksum are right, or no input would ever come that
// far.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream;
  const auto input = std::as_bytes(std::span(data, size));
  decode(input);
  std::vector<std::byte> file(16 + size + 16);
  ByteWriter writer(file);
  writer.text("SLIPSTAT");
  writer.le(std::uint32_t{1});
  writer.le(static_cast<std::uint32_t>(size));
  writer.bytes(input);
  const Digest128 digest = xxh3_128(writer.written());
  writer.le(digest.high);
  writer.le(digest.low);
  decode(file);
  return 0;
}
