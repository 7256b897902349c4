#include "dataplane/fault_port.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

namespace slipstream::dataplane {
namespace {

// Gives numbered frames, 8 at a time.
class Source : public node::Port {
 public:
  std::size_t receive(std::span<protocol::Arrival> frames) override {
    std::size_t count = 0;
    for (; count < std::min<std::size_t>(frames.size(), 8) && next_ < 20000; ++count, ++next_) {
      std::memcpy(slots_[count].data(), &next_, sizeof next_);
      frames[count] = protocol::Arrival(slots_[count]);
    }
    return count;
  }
  std::size_t room(NodeId) override { return 1; }
  void send(NodeId, const node::OutFrame&) override {}
  void flush() override {}
  std::size_t frame_bytes_max(NodeId) const override { return 1472; }

 private:
  std::uint32_t next_ = 0;
  std::array<std::array<std::byte, 64>, 8> slots_{};
};

std::vector<std::uint32_t> drain(Faults faults, FaultPort::Counters* counters = nullptr) {
  FaultPort port(std::make_unique<Source>(), faults);
  std::array<protocol::Arrival, 64> frames;
  std::vector<std::uint32_t> out;
  for (int turn = 0; turn < 5000; ++turn) {
    const std::size_t count = port.receive(frames);
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t number = 0;
      std::memcpy(&number, frames[i].bytes().data(), sizeof number);
      out.push_back(number);
    }
  }
  if (counters) *counters = port.counters();
  return out;
}

TEST(FaultPort, WithoutFaultsChangesNothing) {
  const auto out = drain({});
  ASSERT_EQ(out.size(), 20000u);
  for (std::uint32_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i);
}

TEST(FaultPort, LosesRepeatsAndReordersAboutAsOftenAsItIsTold) {
  FaultPort::Counters counters;
  const auto out = drain({.loss = 0.05, .duplicate = 0.03, .reorder = 0.02, .corrupt = 0, .seed = 4}, &counters);
  EXPECT_NEAR(static_cast<double>(counters.lost), 1000, 200);
  EXPECT_NEAR(static_cast<double>(counters.duplicated), 570, 150);
  EXPECT_NEAR(static_cast<double>(counters.reordered), 380, 120);
  EXPECT_EQ(out.size(), 20000 - counters.lost + counters.duplicated);
  EXPECT_FALSE(std::ranges::is_sorted(out));
}

TEST(FaultPort, DoesTheSameForTheSameSeed) {
  const Faults faults{.loss = 0.1, .duplicate = 0.1, .reorder = 0.1, .corrupt = 0.1, .seed = 7};
  EXPECT_EQ(drain(faults), drain(faults));
  Faults other = faults;
  other.seed = 8;
  EXPECT_NE(drain(faults), drain(other));
}

}  // namespace
}  // namespace slipstream::dataplane
