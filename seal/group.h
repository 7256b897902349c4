#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "seal/session.h"

// Data sealed once for all who hold a key, while everything else is sealed for each host under the keys of its session.
namespace slipstream::seal {

struct GroupKey {
  std::uint32_t id = 0;  // Not 0.
  Secret root;           // Of one generation (session.h).
};

// How what was sealed is found again. No two seals of one key have the same number.
struct GroupSeal {
  std::uint32_t key = 0;
  std::uint64_t number = 0;
  Tag tag{};
  bool operator==(const GroupSeal&) const = default;
};

class GroupSealing {
 public:
  explicit GroupSealing(const GroupKey& key) : id_(key.id), generation_(key.root) {}
  std::uint32_t id() const { return id_; }
  std::uint64_t sealed() const { return number_; }  // So many times.
  // Enciphers `text` into `out`, as long.
  GroupSeal seal(std::span<const std::byte> text, std::span<std::byte> out);

 private:
  std::uint32_t id_;
  std::uint64_t number_ = 0;
  Generation generation_;
};

// The latest two keys that were given to us: what was sealed under the former may come late.
class GroupOpening {
 public:
  void add(const GroupKey& key);
  // Deciphers `text` in place. It does not look whether that was opened before: the frame around it is.
  enum class Outcome : std::uint8_t { kOpened, kUnknownKey, kForged };
  Outcome open(const GroupSeal& seal, std::span<std::byte> text);

 private:
  struct Held {
    std::uint32_t id;
    Generation generation;
  };
  std::optional<Held> latest_, former_;
};

}  // namespace slipstream::seal
