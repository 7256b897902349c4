#include "node/read_slots.h"

#include <algorithm>
#include <utility>

#include "base/digest.h"

namespace slipstream::node {
namespace {

constexpr std::size_t kRepairSlots = 2;

}  // namespace

ReadSlots::ReadSlots(std::span<std::byte> memory, std::uint32_t first_operation)
    : memory_(memory), first_operation_(first_operation), slots_(memory.size() / kSlotBytes) {
  CHECK(slots_.size() >= 2 * kRepairSlots && slots_.size() <= 256);
}

std::span<std::byte> ReadSlots::memory_of(const Slot& slot) const {
  return memory_.subspan(static_cast<std::size_t>(&slot - slots_.data()) * kSlotBytes, kSlotBytes);
}

const ReadSlots::Slot* ReadSlots::free() const {
  const auto it = std::ranges::find(slots_, Slot::Use::kFree, &Slot::use);
  return it == slots_.end() ? nullptr : &*it;
}

bool ReadSlots::has_room_for_catch_up() const {
  return std::ranges::count(slots_, Slot::Use::kFree, &Slot::use) > static_cast<std::ptrdiff_t>(kRepairSlots);
}

void ReadSlots::want(LsnRange range, bool for_comparison) {
  Slot* slot = free();
  CHECK(slot != nullptr && range.size().value <= kSlotBytes);
  *slot = {Slot::Use::kWanted, range, 0, for_comparison};
}

void ReadSlots::want_repair(LsnRange range, Lsn offered_end) {
  const auto being_read = [&](const Slot& slot) {
    return (slot.use == Slot::Use::kWanted || slot.use == Slot::Use::kReading) && slot.range == range;
  };
  if (std::ranges::any_of(slots_, being_read)) return;
  Slot* taken = free();
  if (taken == nullptr) {
    for (Slot& slot : slots_)
      if (slot.use == Slot::Use::kReady && slot.range.begin > range.begin && slot.range.end <= offered_end &&
          (taken == nullptr || slot.range.begin > taken->range.begin))
        taken = &slot;
  }
  if (taken != nullptr) *taken = {Slot::Use::kWanted, range, 0, false};
}

std::optional<ReadOp> ReadSlots::next_read() {
  const auto it = std::ranges::find(slots_, Slot::Use::kWanted, &Slot::use);
  if (it == slots_.end()) return std::nullopt;
  it->use = Slot::Use::kReading;
  return ReadOp{first_operation_ + static_cast<std::uint32_t>(it - slots_.begin()), it->range,
                memory_of(*it).first(it->range.size().value), true};
}

std::optional<ReadSlots::Read> ReadSlots::on_read(std::size_t index, DiskStatus status) {
  Slot& slot = slots_[index];
  CHECK(slot.use == Slot::Use::kReading || slot.use == Slot::Use::kForgotten);
  const Slot was = std::exchange(slot, Slot{});
  if (was.use == Slot::Use::kForgotten) return std::nullopt;
  const auto bytes = memory_of(slot).first(status == DiskStatus::kOk ? was.range.size().value : 0);
  if (!was.for_comparison && !bytes.empty()) slot = {Slot::Use::kReady, was.range, xxh3_64(bytes), false};
  return Read{was.range, was.for_comparison, bytes};
}

std::optional<protocol::Batch> ReadSlots::ready(Lsn begin) const {
  for (const Slot& slot : slots_)
    if (slot.use == Slot::Use::kReady && slot.range.begin == begin) return protocol::Batch{slot.range, slot.digest};
  return std::nullopt;
}

std::span<const std::byte> ReadSlots::bytes_of(LsnRange range) const {
  for (const Slot& slot : slots_)
    if (slot.use == Slot::Use::kReady && slot.range.begin <= range.begin && range.end <= slot.range.end)
      return memory_of(slot).subspan((range.begin - slot.range.begin).value, range.size().value);
  return {};
}

void ReadSlots::release_below(Lsn end) {
  for (Slot& slot : slots_)
    if (slot.use == Slot::Use::kReady && slot.range.end <= end) slot = {};
}

void ReadSlots::forget() {
  for (Slot& slot : slots_) {
    const bool under_way = slot.use == Slot::Use::kReading || slot.use == Slot::Use::kForgotten;
    slot.use = under_way ? Slot::Use::kForgotten : Slot::Use::kFree;
  }
}

}  // namespace slipstream::node
