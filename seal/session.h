#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "seal/aead.h"
#include "seal/replay_window.h"
#include "seal/secret.h"

namespace slipstream::seal {

// How a frame names the key it was sealed under: the session's number (chosen at random by whoever opens the frame, not
// 0) and, in the lowest byte, the generation's lowest 8 bits.
constexpr std::uint32_t kSessionIdMax = 0xff'ffff;
constexpr std::uint32_t key_name(std::uint32_t session_id, std::uint32_t generation) {
  return session_id << 8 | (generation & 0xff);
}

constexpr std::uint64_t kRekeyPackets = std::uint64_t{1} << 22;  // Half of what AES-GCM should be used for at most.

// One generation of keys of one direction: derived from a root that is replaced by the next one's and wiped, so that
// whoever learns a later one cannot open what was sealed before.
class Generation {
 public:
  explicit Generation(const Secret& root);
  Generation next() const;  // Of the root behind this one's.
  Aead& aead() { return aead_; }
  Nonce nonce(std::uint64_t packet_number) const;  // A salt of the generation's, xor the number.

 private:
  struct Derived {
    Secret key, next_root;
    Nonce salt;
  };
  explicit Generation(const Derived& derived);
  static Derived derive(const Secret& root);

  Secret next_root_;
  Nonce salt_;
  Aead aead_;
};

// The direction away from here. Packet numbers rise over all generations; no two frames have the same.
class Sealing {
 public:
  Sealing(const Secret& root, std::uint32_t session_id, std::uint64_t rekey_packets = kRekeyPackets);

  struct Stamp {  // Goes into the frame's header before it is sealed.
    std::uint32_t key = 0;
    std::uint64_t packet_number = 0;
  };
  Stamp next();
  Tag seal(const Stamp& stamp, std::span<const std::byte> header, std::span<const std::byte> first,
           std::span<const std::byte> second, std::span<std::byte> out);

 private:
  std::uint32_t session_id_;
  std::uint64_t rekey_packets_;
  std::uint64_t packet_number_ = 0;
  std::uint64_t rekey_at_;
  std::uint32_t number_ = 0;
  Generation generation_;
};

// The direction towards here. Follows the sender through its generations, also when all frames of some were lost, and
// still opens those of the generation before.
class Opening {
 public:
  static constexpr std::uint32_t kAheadMax = 16;  // Generations.

  Opening(const Secret& root, std::uint32_t session_id);

  enum class Outcome : std::uint8_t { kOpened, kUnknownKey, kReplayed, kForged };
  std::uint32_t session_id() const { return session_id_; }
  // Deciphers `text` in place.
  Outcome open(std::uint32_t key, std::uint64_t packet_number, std::span<const std::byte> header,
               std::span<std::byte> text, std::span<const std::byte, kTagBytes> tag) {
    const Outcome outcome = verify(key, packet_number, header, text, tag);
    if (outcome == Outcome::kOpened) note(packet_number);
    return outcome;
  }
  // The same in two steps, for a packet of which more is to be proven before it counts as seen.
  Outcome verify(std::uint32_t key, std::uint64_t packet_number, std::span<const std::byte> header,
                 std::span<std::byte> text, std::span<const std::byte, kTagBytes> tag);
  void note(std::uint64_t packet_number) { window_.note(packet_number); }

 private:
  Outcome open_ahead(std::uint32_t steps, std::uint64_t packet_number, std::span<const std::byte> header,
                     std::span<std::byte> text, std::span<const std::byte, kTagBytes> tag);

  std::uint32_t session_id_;
  std::uint32_t number_ = 0;
  Generation generation_;
  std::optional<Generation> before_;
  std::deque<Generation> ahead_;  // As far as they were derived.
  ReplayWindow window_;
};

// Both directions, as a handshake agreed on them.
struct Session {
  Sealing sealing;
  Opening opening;
};

}  // namespace slipstream::seal
