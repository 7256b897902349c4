#include "node/waiting.h"

#include <gtest/gtest.h>

#include "ack/policy.h"

namespace slipstream::node {
namespace {

std::string sentence(const ReplicaView& replica, Lsn position) {
  const std::vector<ack::Member> members{{NodeId{2}, "a"}};
  const auto policy = ack::Policy::parse("ANY 1 (a)", members);
  EXPECT_TRUE(policy.has_value());
  const std::vector<ack::ReplicaAcks> acks{{NodeId{2}, replica.ends, true, true}};
  const std::vector<ReplicaView> views{replica};
  const auto out = waiting_sentences(*policy, acks, views, position);
  return out.size() == 1 ? out[0] : "";
}

TEST(Waiting, SaysOfAStreamingReplicaWhatItLacksOrSinceWhenItIsQuiet) {
  ReplicaView replica;
  replica.id = NodeId{2}, replica.name = "a", replica.state = "streaming";
  replica.ends[ack::Level::kDurable] = Lsn{0x1000};
  EXPECT_EQ(sentence(replica, Lsn{0x1000}), "");
  EXPECT_EQ(sentence(replica, Lsn{0x1000 + (3u << 20)}),
            "policy needs 1 more of (a): a streaming (3.0 MB not durable yet)");
  replica.last_heard = milliseconds(800);
  EXPECT_EQ(sentence(replica, Lsn{0x2000}), "policy needs 1 more of (a): a streaming (nothing heard for 0.8 s)");
  replica.reason = "does not count yet";
  EXPECT_EQ(sentence(replica, Lsn{0x2000}), "policy needs 1 more of (a): a streaming (does not count yet)");
}

}  // namespace
}  // namespace slipstream::node
