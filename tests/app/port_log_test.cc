#include "app/port_log.h"

#include <gtest/gtest.h>

namespace slipstream::app {
namespace {

using Sentences = std::vector<std::string>;

TEST(PortLog, TellsOfLinksAndStallsOnce) {
  PortLog log;
  node::PortView port{.name = "to_a", .up = false};
  EXPECT_EQ(log.look({port}), Sentences{"port \"to_a\": its link is down"});
  EXPECT_EQ(log.look({port}), Sentences{});
  port.up = true;
  EXPECT_EQ(log.look({port}), Sentences{"port \"to_a\": its link is up"});
  EXPECT_EQ(log.look({port}), Sentences{});
  port.up = false, port.link_losses = 1;
  EXPECT_EQ(log.look({port}), Sentences{"port \"to_a\": its link was lost (1 times so far)"});
  EXPECT_EQ(log.look({port}), Sentences{});
  port.up = true;
  EXPECT_EQ(log.look({port}), Sentences{"port \"to_a\": its link is up"});
  port.link_losses = 3;
  EXPECT_EQ(log.look({port}), Sentences{"port \"to_a\": its link was lost, and is up again (3 times so far)"});
  port.stalls = 2, port.up = false;
  EXPECT_EQ(log.look({port}).size(), 2u);
  EXPECT_EQ(log.look({port}), Sentences{});
}

TEST(PortLog, TellsOfStallsAsTheirNumberDoubles) {
  PortLog log;
  node::PortView port{.name = "to_a"};
  std::size_t told = 0;
  for (port.stalls = 0; port.stalls < 100; ++port.stalls) told += log.look({port}).size();
  EXPECT_EQ(told, 7u);
}

TEST(PortLog, TellsThePortsApart) {
  PortLog log;
  EXPECT_EQ(log.look({{.name = "to_a"}, {.name = "to_b", .up = false}}), Sentences{"port \"to_b\": its link is down"});
  EXPECT_EQ(log.look({{.name = "to_a"}, {.name = "to_b"}}), Sentences{"port \"to_b\": its link is up"});
}

}  // namespace
}  // namespace slipstream::app
