#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "tests/fuzz/make_right.h"
#include "tests/node/world.h"

// A primary and two replicas, and whatever can happen to them in any order: WAL, turns, long pauses, crashes, a full
// disk, a standby that says anything, and frames that are lost, repeated, late, or forged: with any field changed, and
// a right tag. A forger can lie to a plaintext node about what others hold; but nothing may end it, make it report what
// PostgreSQL has not flushed, or put its own positions out of order.
namespace {

using namespace slipstream;
using namespace slipstream::node;

constexpr std::size_t kActionsMax = 400;
constexpr std::size_t kKeptFrames = 64;

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  bool empty() const { return left_.empty(); }
  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t out = left_.front();
    left_ = left_.subspan(1);
    return out;
  }
  std::uint64_t number(std::size_t bytes) {
    std::uint64_t out = 0;
    while (bytes-- > 0) out = out << 8 | byte();
    return out;
  }

 private:
  std::span<const std::uint8_t> left_;
};

class Events {
 public:
  explicit Events(Input input) : input_(input), world_("ANY 1 (b1, b2)") {
    world_.network.carried = [this](NodeId, NodeId to, const Network::Wire& wire) {
      if (kept_.size() == kKeptFrames) kept_.erase(kept_.begin());
      kept_.push_back({to, wire});
    };
    world_.network.drop = [this](NodeId, NodeId, const protocol::Frame&) { return drops_-- > 0; };
  }

  void run() {
    turns(input_.byte());
    for (std::size_t i = 0; i < kActionsMax && !input_.empty(); ++i) {
      act();
      check();
    }
    turns(64);
    check();
  }

 private:
  struct Kept {
    NodeId to;
    Network::Wire wire;
  };

  void turns(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) world_.turn();
  }

  // Positions near those that matter, more often than others.
  Lsn position() {
    const std::uint8_t kind = input_.byte();
    const std::uint64_t near[] = {world_.wal.end().value, kLogBegin.value, world_.upstream.last.flush.value, 0,
                                  UINT64_MAX};
    const std::uint64_t base = near[kind % 5];
    return Lsn{kind < 128 ? base : kind < 200 ? base + input_.byte() - 128 : input_.number(8)};
  }

  ReplicaHost& host() { return world_.replica(input_.byte() % 2); }

  void act() {
    switch (input_.byte() % 16) {
      case 0:
      case 1:
        return turns(1 + input_.byte() % 32);
      case 2:
        world_.write(1 + input_.byte() % 3, input_.number(2));
        return world_.flush();
      case 3:
      case 4:
      case 5:
        return forge();
      case 6:
        return repeat();
      case 7:
        drops_ = input_.byte() % 16;
        return;
      case 8:
        world_.now = world_.now + milliseconds(static_cast<std::int64_t>(input_.number(2)) % 12'000);
        return;
      case 9:
        return crash_or_start();
      case 10:
        return stand_by();
      case 11:
        if (ReplicaHost& at = host(); input_.byte() % 2 == 0)
          at.disk.no_space = !at.disk.no_space;
        else
          at.disk.hold_writes = !at.disk.hold_writes;
        return;
      case 12:
        return database();
      case 13:
        if (ReplicaHost& at = host(); at.node)
          (void)at.node->fence(1 + input_.byte() % 4, input_.byte() % 2 == 0 ? "b1" : "b2", input_.byte() % 2 == 0,
                               world_.now);
        return;
      case 14:
        if (ReplicaHost& at = host(); at.node) at.node->raise_log_begin(position());
        return;
      default:
        return inject_anything();
    }
  }

  void forge() {
    if (kept_.empty()) return;
    Kept frame = kept_[input_.byte() % kept_.size()];
    for (int changes = 1 + input_.byte() % 3; changes > 0; --changes) {
      std::uint64_t value = input_.byte() % 2 == 0 ? position().value : input_.number(4);
      const std::size_t bytes = std::size_t{1} << input_.byte() % 4;
      if (frame.wire.size() < bytes) return;
      std::memcpy(frame.wire.data() + input_.number(2) % (frame.wire.size() - bytes + 1), &value, bytes);
    }
    if (input_.byte() % 8 == 0) frame.wire.resize(frame.wire.size() - input_.byte() % frame.wire.size());
    (void)protocol::make_right(frame.wire);
    world_.network.inject(frame.to, std::move(frame.wire));
  }

  void repeat() {
    if (kept_.empty()) return;
    const Kept& frame = kept_[input_.byte() % kept_.size()];
    world_.network.inject(input_.byte() % 8 == 0 ? NodeId{static_cast<std::uint16_t>(1 + input_.byte() % 3)} : frame.to,
                          frame.wire);
  }

  void inject_anything() {
    Network::Wire wire(input_.number(2) % 1600);
    for (std::byte& each : wire) each = static_cast<std::byte>(input_.byte());
    (void)protocol::make_right(wire);
    world_.network.inject(NodeId{static_cast<std::uint16_t>(1 + input_.byte() % 3)}, std::move(wire));
  }

  void crash_or_start() {
    const std::uint8_t which = input_.byte() % 3;
    const auto happened = [this] { return input_.byte() % 2 == 0; };
    if (which < 2) {
      ReplicaHost& at = world_.replica(which);
      if (!at.node) return at.start(world_.now);
      at.disk.crash(happened);
      return at.stop();
    }
    if (!world_.primary) {
      world_.start_primary();
      return world_.connect();
    }
    world_.primary_disk.crash(happened);
    world_.stop_primary();
    world_.connected = false;
    world_.upstream.events.clear();
  }

  // Positions are its own word; the feed passes on what it decodes.
  void stand_by() {
    FakeStandby& standby = host().standby;
    switch (input_.byte() % 5) {
      case 0:
        return standby.events.push_back(StandbyConnected{position(), "standby"});
      case 1:
        return standby.events.push_back(StandbyReply{position(), position(), position()});
      case 2:
        return standby.events.push_back(StandbyFeedback{input_.number(8), input_.number(8)});
      case 3:
        return standby.events.push_back(StandbyLost{});
      default:
        standby.replays = !standby.replays;
    }
  }

  void database() {
    if (!world_.primary) return;
    switch (input_.byte() % 4) {
      case 0:
        return world_.connected ? world_.lose_connection() : world_.connect();
      case 1:
        return world_.upstream.events.push_back(UpstreamSyncNames{input_.byte() % 2 == 0, "names", world_.wal.end()});
      case 2:
        return world_.upstream.events.push_back(UpstreamStopping{});
      default:
        return world_.upstream.events.push_back(UpstreamFlushed{world_.wal.end()});
    }
  }

  void check() {
    CHECK(world_.upstream.last.write <= world_.wal.end());
    CHECK(world_.upstream.last.flush <= world_.wal.end() && world_.upstream.last.apply <= world_.wal.end());
    CHECK(world_.upstream.slot <= world_.wal.end());
    for (std::size_t i = 0; i < 2; ++i) {
      if (!world_.replica(i).node) continue;
      const ReplicaSelfView view = world_.replica(i).view(world_.now);
      CHECK(view.received_end >= view.synced_end && view.synced_end >= view.durable_end);
      CHECK(view.durable_end >= view.fed_end && view.log_begin <= view.durable_end);
    }
    // What the world itself expects: operations' shapes, frames that can be decoded.
    CHECK(!testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed());
  }

  Input input_;
  World world_;
  std::vector<Kept> kept_;
  int drops_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Events(Input(data, size)).run();
  return 0;
}
