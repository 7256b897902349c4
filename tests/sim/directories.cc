#include "tests/sim/world.h"

// What befalls state directories. It draws from its own generator, so that the worlds without it stay what they were.
namespace slipstream::sim {
namespace {

constexpr std::size_t kCopies = 6;

// Whether both are of one owner's term: a copy from before it was claimed would be refused by every replica.
bool same_owner(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto one = node::decode_state(a, "copy"), other = node::decode_state(b, "state");
  return one && other && one->own_epoch.term == other->own_epoch.term && one->identity == other->identity;
}

}  // namespace

void World::disturb_directories() {
  if (!disturbing_) return;
  if (primary_copies_.size() == kCopies)
    primary_copies_.erase(primary_copies_.begin() + static_cast<std::ptrdiff_t>(directory_random_.below(kCopies)));
  primary_copies_.push_back(primary_->disk.state.visible());
  if (directory_random_.chance(0.3)) restore_primary();
  scheduler.after(directory_random_.between(milliseconds(1), milliseconds(700)), [this] { disturb_directories(); });
}

// Under one policy: a copy from before a change knows of none, and would count by the old one alone (docs/guarantees).
void World::restore_primary() {
  if (profile.policies.size() > 1) return;
  const auto& copy = directory_random_.one_of(primary_copies_);
  if (!same_owner(copy, primary_->disk.state.visible())) return;
  counts.note(Fault::kPrimaryRestored);
  primary_->crash();
  primary_->restore(copy);
  scheduler.after(directory_random_.between(milliseconds(1), milliseconds(150)), [this] {
    if (disturbing_) primary_->start(policy_);
  });
}

}  // namespace slipstream::sim
