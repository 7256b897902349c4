#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "tests/sim/random.h"

// What becomes of a frame by damage, by a switch that errs, or by one who would do harm. A frame is at least a header.
namespace slipstream::sim {

using Wire = std::vector<std::byte>;

// One field of the header (docs/wire_format.md), the tag, or a word of the body is another: by one, zero, all bits,
// any. The tag is as it was. Of a data frame only the part that the tag covers in plaintext: its batch's digest covers
// the rest.
void damage_a_field(Wire& frame, Random& random);
// A plaintext frame of another cluster, stream, sender, receiver, of no session or epoch, with its tag computed anew.
// False where it would be valid.
bool misdirect(Wire& frame, Random& random);
// Plaintext with other positions, epoch or session, and a tag that fits: as one without keys can send it to a node that
// expects sealed frames.
void forge_plaintext(Wire& frame, Random& random);
// A sealed frame under another key or number, or with half of its tag.
void forge_sealed(Wire& frame, Random& random);

bool is_data(const Wire& frame);
// What has to be sent again if this frame is lost; if it is damaged anywhere: in plaintext its whole batch, which has
// one digest. 0 but of data.
std::uint64_t bytes_to_repeat(const Wire& frame, bool damaged);

// As the header says; nothing of it is proven.
struct SaidSession {
  Epoch epoch;
  SessionId session;
  auto operator<=>(const SaidSession&) const = default;
};
SaidSession session_of(const Wire& frame);

}  // namespace slipstream::sim
