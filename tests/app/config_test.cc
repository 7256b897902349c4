#include "app/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace slipstream::app {
namespace {

const std::string kPrimary = R"toml(name = "p"
role = "primary"
security = "plaintext"
[policy]
commit = "ANY 1 (a, b)"
[primary]
conninfo = "host=/tmp"
state_directory = "/tmp/p"
[[port]]
name = "to_a"
vdev = "net_memif0"
address = "10.0.0.1"
[[node]]
name = "p"
number = 1
role = "primary"
address = "10.0.0.1"
[[node]]
name = "a"
number = 2
address = "10.0.0.2"
via = "to_a"
[[node]]
name = "b"
number = 3
address = "10.0.0.3"
via = "to_a"
)toml";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string error_of(const std::string& text) {
  const auto config = parse_config(text, "p.toml");
  if (config) return "accepted";
  EXPECT_EQ(config.error().code, ExitCode::kConfiguration);
  return config.error().message();
}

void expect_error(const std::string& text, const std::vector<std::string>& parts) {
  const std::string message = error_of(text);
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
}

TEST(Config, ReadsAPrimaryWithDefaults) {
  const auto config = parse_config(kPrimary, "p.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->role, Role::kPrimary);
  EXPECT_EQ(config->primary.application_name, "slipstream");
  EXPECT_EQ(config->runtime.control_socket, "/run/slipstream/p.sock");
  EXPECT_EQ(config->replicas().size(), 2u);
  EXPECT_EQ(config->self().number, NodeId{1});
}

TEST(Config, NamesAnUnknownKeyWithItsPlaceAndTheNearestOne) {
  expect_error(replaced(kPrimary, "commit = ", "comit = "), {"p.toml:5:1", "policy.comit", "\"commit\""});
  expect_error(replaced(kPrimary, "[policy]", "[polcy]"), {"p.toml:4:", "polcy", "\"policy\""});
  expect_error(kPrimary + "adress = \"10.0.0.4\"\n", {"node.adress", "\"address\""});
}

TEST(Config, ALogHasRoomForTwiceWhatIsKeptAtLeast) {
  const std::string replica =
      "name = \"a\"\nrole = \"replica\"\nsecurity = \"plaintext\"\n[replica]\ndirectory = \"/tmp/a\"\nlog_only = "
      "true\nkeep = \"2GB\"\nkeep_max = \"3GB\"\n";
  expect_error(replica + kPrimary.substr(kPrimary.find("[[port]]")), {"keep_max is less than twice", "takes no more"});
}

TEST(Config, AStandbyIsFedAtMostASecondApart) {
  const auto with = [](const std::string& feed) {
    return "name = \"a\"\nrole = \"replica\"\nsecurity = \"plaintext\"\n[replica]\ndirectory = \"/tmp/a\"\n"
           "[replica.feed]\nsocket_directory = \"/tmp\"\n" +
           feed + replaced(kPrimary.substr(kPrimary.find("[[port]]")), "role = \"primary\"", "role = \"primary\"\nvia = \"to_a\"");
  };
  const auto usual = parse_config(with(""), "a.toml"), at_once = parse_config(with("gather_ms = 0\n"), "a.toml");
  ASSERT_TRUE(usual) << usual.error().message();
  ASSERT_TRUE(at_once) << at_once.error().message();
  EXPECT_EQ(usual->replica.feed.gather_ms, 10);
  EXPECT_EQ(at_once->replica.feed.gather_ms, 0);
  expect_error(with("gather_ms = 1001\n"), {"replica.feed.gather_ms", "1000"});
}

TEST(Config, NamesAMistypedValueWithItsPlace) {
  expect_error(replaced(kPrimary, "number = 2", "number = \"2\""), {"p.toml:20:", "node.number", "whole number"});
  expect_error(replaced(kPrimary, "10.0.0.2", "10.0.0.256"), {"10.0.0.256", "no IPv4 address"});
  expect_error(replaced(kPrimary, "[[port]]", "restore_command = \"cp /archive/%f .\"\n[[port]]"),
               {"primary.restore_command", "where to put it", "%p for the path"});
  expect_error(replaced(kPrimary, "[[port]]", "catch_up_rate = \"fast\"\n[[port]]"), {"primary.catch_up_rate"});
  expect_error(replaced(kPrimary, "[[port]]", "slow_backlog = \"8kB\"\n[[port]]"), {"primary.slow_backlog"});
  expect_error(kPrimary + "\nmax_rate = \"1kB\"\n", {"node.max_rate", "64kB"});
  expect_error(replaced(kPrimary, "[[port]]", "[runtime]\nring = \"5MB\"\n[[port]]"), {"runtime.ring", "power of two"});
  expect_error(replaced(kPrimary, "[[port]]", "[runtime]\nring = \"64 apples\"\n[[port]]"),
               {"64 apples", "kB, MB, GB"});
  expect_error(replaced(kPrimary, "[[port]]", "[runtime]\nidle = \"adaptve\"\n[[port]]"), {"adaptve", "\"adaptive\""});
}

TEST(Config, WantsPlaintextAskedForByName) {
  expect_error(replaced(kPrimary, "security = \"plaintext\"\n", ""), {"security", "plaintext"});
  expect_error(replaced(kPrimary, "\"plaintext\"", "\"none\""), {"security", "sealed", "plaintext"});
  expect_error(replaced(kPrimary, "\"plaintext\"", "\"sealed\""), {"[seal]", "keygen"});
}

TEST(Config, SaysHowDataIsSealed) {
  const auto with = [](const std::string& line) {
    return replaced(kPrimary, "[[port]]", "[seal]\nhost_key = \"h\"\ncluster_key = \"c\"\n" + line + "\n[[port]]");
  };
  EXPECT_FALSE(parse_config(with(""), "p.toml")->seal.data_per_replica);
  EXPECT_TRUE(parse_config(with("data_key = \"per_replica\""), "p.toml")->seal.data_per_replica);
  expect_error(with("data_key = \"per_node\""), {"seal.data_key", "per_node", "per_replica"});
}

TEST(Config, RefusesAPolicyThatNamesAnUnknownReplica) {
  expect_error(replaced(kPrimary, "ANY 1 (a, b)", "ANY 1 (a, bb)"), {"policy.commit", "bb"});
}

TEST(Config, RefusesNodesThatDoNotFitTogether) {
  expect_error(replaced(kPrimary, "via = \"to_a\"", "via = \"to_x\""), {"to_x", "\"to_a\""});
  expect_error(replaced(kPrimary, "number = 3", "number = 2"), {"number 2"});
  expect_error(replaced(kPrimary, "name = \"p\"\nrole", "name = \"q\"\nrole"), {"\"q\"", "none of the [[node]]"});
  expect_error(replaced(kPrimary, "vdev = \"net_memif0\"\n", ""),
               {"exactly one of vdev, pci, mac, interface, kernel_udp"});
  expect_error(replaced(kPrimary, "vdev = \"net_memif0\"\n", "vdev = \"net_memif0\"\nkernel_udp = true\n"),
               {"exactly one of vdev, pci, mac, interface, kernel_udp"});
  EXPECT_TRUE(parse_config(replaced(kPrimary, "vdev = \"net_memif0\"\n", "kernel_udp = true\n"), "p.toml"));
}

TEST(Config, RefusesNamesThatNoFrameHasRoomFor) {
  const std::string name(2000, 'x');
  expect_error(replaced(replaced(kPrimary, "name = \"b\"", "name = \"" + name + "\""), "ANY 1 (a, b)", "ANY 1 (a)"),
               {"too long for one frame"});
}

TEST(Config, SaysWhereTheTomlIsBroken) { expect_error("name = \n", {"p.toml:1:"}); }

TEST(Config, SaysThatAFileIsMissing) {
  const auto config = load_config("/nonexistent/x.toml");
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message().find("No such file"), std::string::npos);
}

std::string with_port(const std::string& lines) {
  return replaced(kPrimary, "address = \"10.0.0.1\"\n[[node]]", lines + "[[node]]");
}

TEST(Config, APortHasANetworkAGatewayAndAVlan) {
  const std::string text =
      replaced(with_port("address = \"10.0.0.1/24\"\ngateway = \"10.0.0.254\"\nvlan = 42\n"), "10.0.0.3", "10.1.0.3");
  const auto config = parse_config(text, "p.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->ports.front().bare_address(), "10.0.0.1");
  EXPECT_EQ(config->ports.front().gateway, "10.0.0.254");
  EXPECT_EQ(config->ports.front().vlan, 42);
}

TEST(Config, NamesWhatIsWrongWithAPortsNetwork) {
  expect_error(with_port("address = \"10.0.0.1/33\"\n"), {"p.toml:12:", "10.0.0.1/33", "10.0.0.1/24"});
  expect_error(with_port("address = \"10.0.0.1\"\ngateway = \"10.0.0.254\"\n"), {"no prefix length", "10.0.0.1/24"});
  expect_error(with_port("address = \"10.0.0.1/24\"\ngateway = \"10.0.0.1\"\n"), {"own address"});
  expect_error(with_port("address = \"10.0.0.1/24\"\ngateway = \"10.0.1.1\"\n"), {"10.0.1.1 is not in 10.0.0.1/24"});
  expect_error(with_port("address = \"10.0.0.1/24\"\ngateway = \"router\"\n"), {"\"router\" is no IPv4 address"});
  expect_error(with_port("address = \"10.0.0.1/24\"\nvlan = 4095\n"), {"port.vlan", "4094"});
  expect_error(replaced(with_port("address = \"10.0.0.1/24\"\n"), "10.0.0.3", "10.1.0.3"),
               {"node \"b\" (10.1.0.3) is not in 10.0.0.1/24", "no gateway", "to do: give the port gateway"});
  expect_error(
      replaced(with_port("address = \"10.0.0.1/24\"\nvlan = 42\n"), "vdev = \"net_memif0\"", "kernel_udp = true"),
      {"kernel", "type vlan id 42"});
  EXPECT_NE(error_of(with_port("address = \"10.0.0.1/32\"\n")), "accepted") << "its peers are not in that network";
  EXPECT_EQ(error_of(with_port("address = \"10.0.0.1/32\"\ngateway = \"10.9.0.1\"\n")), "accepted") << "as in clouds";
}

TEST(Size, TakesUnitsOf1024) {
  EXPECT_EQ(parse_size("64MB"), ByteCount{64u << 20});
  EXPECT_EQ(parse_size("8192"), ByteCount{8192});
  EXPECT_EQ(parse_size("1 GB"), ByteCount{std::uint64_t{1} << 30});
  EXPECT_FALSE(parse_size("1 gb"));
  EXPECT_FALSE(parse_size("99999999999999999TB"));
}

TEST(Config, APortUsesWhatItsDeviceOffersOrNothingOfIt) {
  const std::string vdev = "vdev = \"net_memif0\"\n";
  EXPECT_TRUE(parse_config(kPrimary, "p.toml")->ports[0].use_offloads);
  EXPECT_FALSE(parse_config(replaced(kPrimary, vdev, vdev + "offloads = \"none\"\n"), "p.toml")->ports[0].use_offloads);
  expect_error(replaced(kPrimary, vdev, vdev + "offloads = \"non\"\n"), {"offloads", "none"});
  expect_error(replaced(kPrimary, vdev, "kernel_udp = true\noffloads = \"none\"\n"),
               {"no device of its own", "ethtool"});
}

TEST(Config, TakesEveryExampleThatIsShipped) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SLIPSTREAM_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".toml") continue;
    const auto config = load_config(entry.path().string());
    EXPECT_TRUE(config) << (config ? "" : config.error().message());
    ++count;
  }
  EXPECT_GE(count, 4u);
}

}  // namespace
}  // namespace slipstream::app
