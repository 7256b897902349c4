#include "dataplane/udp_port.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "dataplane/idle.h"
#include "dataplane/routed_port.h"

namespace slipstream::dataplane {
namespace {

constexpr NodeId kPrimary{1}, kReplica{2}, kOther{3};

// Addresses that no other run of this test has; 127.0.0.0/8 is all ours.
std::string address(int host) {
  const int pid = ::getpid();
  return "127." + std::to_string(1 + pid / 250 % 250) + "." + std::to_string(1 + pid % 250) + "." +
         std::to_string(host);
}

std::unique_ptr<UdpPort> open(int host, NodeId peer, int peer_host, std::uint32_t mtu = 1500,
                              std::function<void(const std::string&)> warn = {}) {
  auto port =
      UdpPort::open({"lo", address(host), 7650, mtu, std::move(warn)}, {{peer, address(peer_host), 7650, "", "lo"}});
  EXPECT_TRUE(port) << port.error().message();
  return std::move(*port);
}

node::OutFrame frame(std::size_t head, std::span<const std::byte> payload, std::uint32_t number) {
  node::OutFrame out;
  out.head_bytes = head;
  std::memcpy(out.head.data(), &number, sizeof number);
  out.payload = payload;
  return out;
}

std::uint32_t number_of(std::span<const std::byte> received) {
  std::uint32_t out = 0;
  std::memcpy(&out, received.data(), sizeof out);
  return out;
}

using Received = std::vector<std::vector<std::byte>>;

Received receive(node::Port& port, std::size_t wanted, const UdpPort* fd = nullptr) {
  Received out;
  std::array<protocol::Arrival, 7> some;  // No multiple of what comes at once.
  for (int turn = 0; turn < 2000 && out.size() < wanted; ++turn) {
    const std::size_t count = port.receive(some);
    for (std::size_t i = 0; i < count; ++i) {
      const auto bytes = some[i].bytes();
      out.emplace_back(bytes.begin(), bytes.end());
    }
    if (count > 0) continue;
    if (fd && !fd->is_restless()) {
      pollfd wait{fd->wake_fds().front(), POLLIN, 0};
      EXPECT_EQ(::poll(&wait, 1, 5000), 1) << "nothing wakes the receiver";
    }
  }
  return out;
}

TEST(UdpPort, CarriesFramesOfAnySizeInOrder) {
  const auto primary = open(1, kReplica, 2), replica = open(2, kPrimary, 1);
  const std::size_t most = primary->frame_bytes_max(kReplica);
  EXPECT_EQ(most, 1472u);
  std::vector<std::byte> payload(most);
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i * 7);
  std::vector<std::size_t> sizes;
  for (std::uint32_t i = 0; i < 200; ++i) {
    const std::size_t bytes = i % 50 == 49 ? 100 + i : i % 3 == 0 && i > 150 ? 60 : most;
    sizes.push_back(bytes);
    primary->send(kReplica, frame(40, std::span(payload).first(bytes - 40), i));
  }
  primary->flush();
  const Received received = receive(*replica, sizes.size(), replica.get());
  ASSERT_EQ(received.size(), sizes.size());
  for (std::uint32_t i = 0; i < sizes.size(); ++i) {
    ASSERT_EQ(number_of(received[i]), i);
    ASSERT_EQ(received[i].size(), sizes[i]);
    ASSERT_TRUE(std::equal(received[i].begin() + 40, received[i].end(), payload.begin()));
  }
  EXPECT_EQ(primary->counters().sent, sizes.size());
  EXPECT_EQ(replica->counters().received, sizes.size());
  EXPECT_LT(primary->counters().send_calls, 5u);
  EXPECT_LT(replica->counters().receive_calls, 40u);
}

TEST(UdpPort, CarriesBothWays) {
  const auto primary = open(1, kReplica, 2), replica = open(2, kPrimary, 1);
  for (std::uint32_t i = 0; i < 20; ++i) {
    primary->send(kReplica, frame(64, {}, i)), primary->flush();
    ASSERT_EQ(receive(*replica, 1, replica.get()).size(), 1u);
    replica->send(kPrimary, frame(80, {}, i)), replica->flush();
    ASSERT_EQ(receive(*primary, 1, primary.get()).size(), 1u);
  }
}

TEST(UdpPort, WakesASleeperAndLosesNothingToThat) {
  const auto primary = open(1, kReplica, 2), replica = open(2, kPrimary, 1);
  Waker waker;
  for (const int fd : replica->wake_fds()) waker.watch(fd);
  for (std::uint32_t i = 0; i < 3; ++i) {
    primary->send(kReplica, frame(64, {}, i)), primary->flush();
    const Instant before = monotonic_now();
    waker.sleep(seconds(20));
    EXPECT_LT(monotonic_now() - before, seconds(10));
    std::array<protocol::Arrival, 4> frames;
    ASSERT_EQ(replica->receive(frames), 1u);
    EXPECT_EQ(number_of(frames[0].bytes()), i);
  }
}

TEST(UdpPort, DropsWhatIsBeyondRoomAndCounts) {
  const auto primary = open(1, kReplica, 2);
  EXPECT_EQ(primary->room(kOther), 0u);
  EXPECT_EQ(primary->frame_bytes_max(kOther), 0u);
  primary->send(kOther, frame(64, {}, 0));
  EXPECT_GE(primary->room(kReplica), 64u);
  const std::vector<std::byte> large(3000);
  primary->send(kReplica, frame(40, large, 0));
  primary->flush();
  EXPECT_EQ(primary->counters().dropped, 1u);
  EXPECT_EQ(primary->counters().sent, 0u);
}

TEST(UdpPort, CountsWhatCameWhileItsBufferWasFull) {
  const auto primary = open(1, kReplica, 2), replica = open(2, kPrimary, 1);
  const std::vector<std::byte> payload(1300);
  EXPECT_EQ(replica->views().front().missed, 0u);
  for (int burst = 0; burst < 1000 && replica->views().front().missed == 0; ++burst) {
    for (std::uint32_t i = 0; i < 64; ++i) primary->send(kReplica, frame(40, payload, i));
    primary->flush();
  }
  const std::uint64_t missed = *replica->views().front().missed;  // The kernel counts what it joined as one.
  EXPECT_GT(missed, 0u);
  EXPECT_LE(receive(*replica, primary->counters().sent).size(), primary->counters().sent - missed);
}

TEST(UdpPort, ReceivesNothingFromStrangers) {
  const auto stranger = open(4, kReplica, 2), replica = open(2, kPrimary, 1), primary = open(1, kReplica, 2);
  stranger->send(kReplica, frame(64, {}, 666)), stranger->flush();
  primary->send(kReplica, frame(64, {}, 1)), primary->flush();
  const Received received = receive(*replica, 1, replica.get());
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(number_of(received[0]), 1u);
  EXPECT_EQ(replica->counters().foreign, 1u);
}

TEST(UdpPort, WarnsOnceOfAPeerThatCannotBeReached) {
  std::vector<std::string> warned;
  auto port =
      UdpPort::open({"lo", address(1), 7650, 1500, [&](const std::string& what) { warned.push_back(what); }},
                    {{kReplica, "255.255.255.255", 7650, "", "lo"}});  // Broadcast: not without being asked for.
  ASSERT_TRUE(port);
  for (std::uint32_t i = 0; i < 3; ++i) (*port)->send(kReplica, frame(64, {}, i)), (*port)->flush();
  EXPECT_EQ((*port)->counters().dropped, 3u);
  ASSERT_EQ(warned.size(), 1u);
  EXPECT_NE(warned[0].find("255.255.255.255"), std::string::npos);
}

TEST(UdpPort, NamesAnAddressItCannotHave) {
  const auto elsewhere = UdpPort::open({"net0", "192.0.2.1", 7650, 1500, {}}, {});
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().code, ExitCode::kPort);
  EXPECT_NE(elsewhere.error().message().find("ip -4 addr"), std::string::npos);

  const auto first = open(1, kReplica, 2);
  const auto second = UdpPort::open({"net0", address(1), 7650, 1500, {}}, {});
  ASSERT_FALSE(second);
  for (const std::string& part : {address(1) + ":7650", std::string("another process has it"),
                                  std::string("an address or a udp_port of its own")})
    EXPECT_NE(second.error().message().find(part), std::string::npos) << second.error().message();

  EXPECT_FALSE(UdpPort::open({"net0", "10.0.0", 7650, 1500, {}}, {}));
  EXPECT_FALSE(UdpPort::open({"net0", address(9), 7650, 1500, {}}, {{kReplica, "nowhere", 7650, "", ""}}));
}

TEST(RoutedPort, ReachesEachPeerThroughItsPort) {
  const auto first = open(2, kPrimary, 1), second = open(3, kPrimary, 5);
  std::vector<RoutedPort::Route> routes;
  routes.push_back({open(1, kReplica, 2), {kReplica}});
  routes.push_back({open(5, kOther, 3, 9000), {kOther}});
  RoutedPort primary(std::move(routes));
  EXPECT_EQ(primary.frame_bytes_max(kReplica), 1472u);
  EXPECT_EQ(primary.frame_bytes_max(kOther), 8972u);
  EXPECT_EQ(primary.room(kPrimary), 0u);
  EXPECT_EQ(primary.wake_fds().size(), 2u);
  EXPECT_TRUE(primary.wakes());

  primary.send(kReplica, frame(64, {}, 22)), primary.send(kOther, frame(64, {}, 33)), primary.flush();
  EXPECT_EQ(number_of(receive(*first, 1, first.get()).at(0)), 22u);
  EXPECT_EQ(number_of(receive(*second, 1, second.get()).at(0)), 33u);
  first->send(kPrimary, frame(64, {}, 2)), first->flush(), second->send(kPrimary, frame(64, {}, 3)), second->flush();
  std::vector<std::uint32_t> numbers;
  for (const auto& each : receive(primary, 2)) numbers.push_back(number_of(each));
  std::ranges::sort(numbers);
  EXPECT_EQ(numbers, (std::vector<std::uint32_t>{2, 3}));
}

}  // namespace
}  // namespace slipstream::dataplane
