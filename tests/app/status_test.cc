#include "app/status.h"

#include <gtest/gtest.h>

namespace slipstream::app {
namespace {

node::Snapshot primary_with_one_replica() {
  node::Snapshot snapshot;
  snapshot.name = "p", snapshot.role = "primary";
  snapshot.primary.state = "running";
  snapshot.primary.policy = "ANY 1 (b)";
  node::ReplicaView replica;
  replica.name = "b", replica.state = "catching_up", replica.reason = "300 MB to go, 3 s at this speed";
  replica.lag[static_cast<std::size_t>(ack::Level::kDurable)] = {microseconds(312), microseconds(1999), 7};
  snapshot.primary.replicas.push_back(replica);
  return snapshot;
}

TEST(Status, LagIsShownInTheUnitThatFits) {
  const std::string table = status_table(status_json(primary_with_one_replica()));
  EXPECT_NE(table.find("312 us / 2 ms"), std::string::npos) << table;
  EXPECT_NE(table.find("300 MB to go, 3 s at this speed"), std::string::npos) << table;
}

TEST(Status, CommitsThatWaitAreShownWithSinceWhenAndWhy) {
  node::Snapshot snapshot = primary_with_one_replica();
  EXPECT_EQ(status_table(status_json(snapshot)).find("commits    wait"), std::string::npos);
  snapshot.primary.waiting = milliseconds(4200);
  snapshot.primary.waiting_for = {"policy needs 1 more of (b): b catching_up"};
  const Json json = status_json(snapshot);
  EXPECT_EQ(json["primary"]["waiting_us"], 4200000.0);
  const std::string table = status_table(json);
  EXPECT_NE(table.find("commits    wait for 4.2 s already: policy needs 1 more of (b): b catching_up"),
            std::string::npos)
      << table;
}

TEST(Status, AFeedsStandbyStreamsIsAwayOrNeedsOlderWal) {
  postgres::FeedView view;
  EXPECT_EQ(feed_json(view)["state"], "away");
  view.refused_start = "b asked for 0/100000, but this log begins at 0/300000";
  EXPECT_EQ(feed_json(view)["state"], "needs_older_wal");
  EXPECT_EQ(feed_json(view)["reason"], view.refused_start);
  view.readers.push_back({"pg_receivewal", false, Lsn{0x300000}, Lsn{0x400000}, {}});
  EXPECT_EQ(feed_json(view)["state"], "needs_older_wal");
  view.readers.push_back({"b", true, Lsn{0x300000}, Lsn{0x400000}, postgres::StandbyStatus{Lsn{3}, Lsn{2}, Lsn{1}}});
  const Json json = feed_json(view);
  EXPECT_EQ(json["state"], "streaming");
  EXPECT_EQ(json["reason"], "");
  EXPECT_EQ(json["readers"][1]["flush"], "0/2");
}

TEST(Status, AStandbyThatNeedsOlderWalIsShownWithTheRemedy) {
  node::Snapshot snapshot;
  snapshot.name = "b", snapshot.role = "replica";
  snapshot.replica.state = "receiving";
  Json status = status_json(snapshot);
  EXPECT_NE(status_table(status).find("standby    not connected"), std::string::npos);
  postgres::FeedView view;
  view.refused_start = "b asked for 0/100000, but this log begins at 0/300000";
  status["replica"]["feed"] = feed_json(view);
  const std::string table = status_table(status);
  EXPECT_NE(table.find("needs older WAL than this log has: b asked for 0/100000"), std::string::npos) << table;
  EXPECT_NE(table.find("to do: give the standby a restore_command"), std::string::npos) << table;
}

}  // namespace
}  // namespace slipstream::app
