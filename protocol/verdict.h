#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace slipstream::protocol {

// What became of a frame. Anything but kAccepted and kDuplicate changed no state; drivers count each under its name.
enum class Verdict : std::uint8_t {
  kAccepted,
  kDuplicate,     // Nothing new in it.
  kTruncated,     // Shorter than its header says.
  kOversized,     // Longer than its header says, or than a frame may be.
  kMagic,         // Not one of our frames.
  kVersion,       // A format version we do not speak.
  kUnknownKind,   // Unknown, and must be understood.
  kSkipped,       // Unknown, and need not be understood.
  kReservedBits,  // A reserved bit or field is not zero.
  kChecksum,      // Header or batch digest differs.
  kOtherCluster,
  kOtherStream,
  kUnknownNode,  // Source or destination is not who it should be.
  kStaleEpoch,
  kFutureEpoch,  // An epoch no handshake has introduced.
  kOtherSession,
  kBadRange,    // A range that wraps, is empty, or leaves the window.
  kBadAck,      // Acknowledges what was never sent, or falls.
  kBadField,    // Another field out of its range.
  kUnexpected,  // Well formed, but not in this state.
  // Of sealed frames (node/sealed_port.h):
  kSealed,      // Sealed, but this side expects plaintext.
  kNotSealed,   // Plaintext, but this side expects sealed frames.
  kUnknownKey,  // Sealed under a key of an earlier or of no session.
  kReplayed,    // Its packet number was seen, or is too old to know.
  kForged,      // Not what its sender sealed; or of a key exchange, by one who lacks the cluster key.
  kBadCookie,   // Opens a session with a cookie that was not given out for it, or was used.
  kNotThePeer,  // Opens a session without the static key of whom it says it is.
};
constexpr std::size_t kVerdicts = 27;
std::string_view to_string(Verdict verdict);

}  // namespace slipstream::protocol
