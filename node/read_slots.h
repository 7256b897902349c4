#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "node/io.h"
#include "protocol/frame.h"

namespace slipstream::node {

// The memory into which one peer's WAL is read again from files: for comparison, for catch-up, and for repairs of what
// memory no longer holds. One read operation and one batch a slot.
// Guarantees: (1) A slot is not used again before its read has ended, even if the session that asked is gone. (2) What
//   ready() and bytes_of() give was read in this session. (3) A repair always gets a slot: it takes that of a batch
//   farther on, which can be read again. Without this a gap could wait for slots that wait for the gap.
class ReadSlots {
 public:
  static constexpr std::size_t kSlotBytes = protocol::kBatchBytesMax;

  // `memory` is a multiple of kSlotBytes, at least 4 slots. Operations get ids from `first_operation` on.
  ReadSlots(std::span<std::byte> memory, std::uint32_t first_operation);

  bool has_free() const { return free() != nullptr; }
  bool has_room_for_catch_up() const;              // Leaves some to repairs.
  void want(LsnRange range, bool for_comparison);  // has_free().
  void want_repair(LsnRange range, Lsn offered_end);
  std::optional<ReadOp> next_read();

  struct Read {
    LsnRange range;
    bool for_comparison = false;
    std::span<const std::byte> bytes;  // Empty: the file is gone.
  };
  // Nothing when the session that asked is gone. A batch stays for ready() and bytes_of().
  std::optional<Read> on_read(std::size_t slot, DiskStatus status);

  std::optional<protocol::Batch> ready(Lsn begin) const;
  std::span<const std::byte> bytes_of(LsnRange range) const;
  void release_below(Lsn end);
  void forget();  // The session is over.
  ByteCount size() const { return {memory_.size()}; }

 private:
  struct Slot {
    enum class Use : std::uint8_t { kFree, kWanted, kReading, kForgotten /* being read for a session gone */, kReady };
    Use use = Use::kFree;
    LsnRange range{};
    std::uint64_t digest = 0;
    bool for_comparison = false;
  };
  const Slot* free() const;
  Slot* free() { return const_cast<Slot*>(std::as_const(*this).free()); }
  std::span<std::byte> memory_of(const Slot& slot) const;

  std::span<std::byte> memory_;
  std::uint32_t first_operation_;
  std::vector<Slot> slots_;
};

}  // namespace slipstream::node
