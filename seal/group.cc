#include "seal/group.h"

#include <utility>

namespace slipstream::seal {

GroupSeal GroupSealing::seal(std::span<const std::byte> text, std::span<std::byte> out) {
  GroupSeal made{id_, number_++, {}};
  made.tag = generation_.aead().seal(generation_.nonce(made.number), {}, text, {}, out);
  return made;
}

void GroupOpening::add(const GroupKey& key) {
  if ((latest_ && latest_->id == key.id) || (former_ && former_->id == key.id)) return;
  former_ = std::exchange(latest_, Held{key.id, Generation(key.root)});
}

GroupOpening::Outcome GroupOpening::open(const GroupSeal& seal, std::span<std::byte> text) {
  for (auto* held : {&latest_, &former_}) {
    if (!*held || (*held)->id != seal.key) continue;
    Generation& under = (*held)->generation;
    return under.aead().open(under.nonce(seal.number), {}, text, seal.tag) ? Outcome::kOpened : Outcome::kForged;
  }
  return Outcome::kUnknownKey;
}

}  // namespace slipstream::seal
