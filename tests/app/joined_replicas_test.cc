#include "app/joined_replicas.h"

#include <gtest/gtest.h>

namespace slipstream::app {
namespace {

using Names = std::vector<std::string>;

node::PrimaryView view_of(bool kept, std::uint64_t log) {
  node::PrimaryView view;
  node::ReplicaView& replica = view.replicas.emplace_back();
  replica.name = "a", replica.kept_by_slot = kept, replica.log_id = LogId{{log, 1}};
  return view;
}

TEST(JoinedReplicas, NamesAReplicaOnceWhenItIsKept) {
  JoinedReplicas joined;
  EXPECT_EQ(joined.look(view_of(false, 1)), Names{});
  EXPECT_EQ(joined.look(view_of(true, 1)), Names{"a"});
  EXPECT_EQ(joined.look(view_of(true, 1)), Names{});
}

TEST(JoinedReplicas, NamesItAgainAfterItWasAway) {
  JoinedReplicas joined;
  (void)joined.look(view_of(true, 1));
  (void)joined.look(view_of(false, 1));
  EXPECT_EQ(joined.look(view_of(true, 1)), Names{"a"});
}

TEST(JoinedReplicas, NamesOneThatWasMadeAnewBetweenTwoLooks) {
  JoinedReplicas joined;
  (void)joined.look(view_of(true, 1));
  EXPECT_EQ(joined.look(view_of(true, 2)), Names{"a"});
  EXPECT_EQ(joined.look(view_of(true, 2)), Names{});
}

TEST(JoinedReplicas, NamesNoneThatIsSilentSinceTheSlotMayBeOfTheNextUnderItsName) {
  JoinedReplicas joined;
  node::PrimaryView gone = view_of(true, 1);
  gone.replicas[0].last_heard = JoinedReplicas::kLately + milliseconds(1);
  EXPECT_EQ(joined.look(gone), Names{});
  EXPECT_EQ(joined.look(view_of(true, 2)), Names{"a"});
  gone.replicas[0].log_id = LogId{{2, 1}};
  EXPECT_EQ(joined.look(gone), Names{});
  EXPECT_EQ(joined.look(view_of(true, 2)), Names{}) << "it was away, but in no other session";
}

}  // namespace
}  // namespace slipstream::app
