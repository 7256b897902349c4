#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ack/policy.h"
#include "ack/quorum.h"
#include "base/check.h"

// A text is refused with a column, or is a policy that keeps its promises and can be evaluated.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream;
  using namespace slipstream::ack;
  static const std::vector<Member> kMembers{{NodeId{1}, "a"}, {NodeId{2}, "B"}, {NodeId{3}, "first"}, {NodeId{4}, "2"}};
  const auto policy = Policy::parse({reinterpret_cast<const char*>(data), size}, kMembers);
  if (!policy) {
    CHECK(policy.error().where.starts_with("column "));
    return 0;
  }
  std::vector<ReplicaAcks> acks;
  for (const Member& member : kMembers) acks.push_back({member.id, {{Lsn{5}, Lsn{5}, Lsn{5}}}, true, true});
  for (const Policy::Term& term : policy->terms()) {
    CHECK(term.count >= 1 && term.count <= term.members.size());
    for (const NodeId id : term.members) CHECK(std::ranges::count(term.members, id) == 1);
  }
  // With everyone at the same position that is what is committed, and everyone together is a recovery set.
  CHECK(policy->empty() || committed(*policy, acks, Level::kDurable) == Lsn{5});
  CHECK(waiting_for(*policy, acks, Level::kDurable, Lsn{5}).empty());
  CHECK(minimal_recovery_sets(*policy, kMembers).empty() == policy->empty());
  return 0;
}
