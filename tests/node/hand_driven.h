#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "tests/node/world.h"

// A primary that may ship WAL before it is flushed, and a replica b1 that is played by hand.
namespace slipstream::node {

class HandDriven : public testing::Test {
 protected:
  static constexpr NodeId kReplicaId{2};
  static constexpr Lsn kFar{std::uint64_t{8} << 20};

  HandDriven() {
    disk.bytes.resize((kFar - kLogBegin).value);  // PostgreSQL's files: WAL and zeros.
    disk.state = encode(first_primary_state(kIdentity));
    for (int i = 0; i < 3; ++i) wal.record(100);
    write();
  }

  void start(bool ship_written) {
    PrimaryOptions options;
    options.id = kPrimaryId, options.name = "a", options.policy = "ANY 1 (b1)";
    options.replicas = {{kReplicaId, "b1"}};
    options.ship_written = ship_written;
    primary = std::make_unique<PrimaryNode>(options, *decode_state(disk.state, "a"), std::span(ring.get(), kRingBytes),
                                            std::span(catch_up.get(), kRingBytes), now);
  }
  // All that was written is flushed, as before each connection.
  void connect(bool all_flushed = true, std::optional<Lsn> stale_end = {}) {
    streamed_end = align_down(wal.end(), wal::kPageBytes);
    flushed_end = wal.end();
    upstream.events.push_back(UpstreamConnected{kSystem, TimelineId{1}, kSegmentSize, 150020, streamed_end, flushed_end,
                                                "", all_flushed, stale_end.value_or(flushed_end)});
    upstream.events.push_back(UpstreamSyncNames{true, "slipstream"});
    flush();
  }
  void write() {
    const auto bytes = wal.at({written_end, wal.end()});
    std::ranges::copy(bytes, disk.bytes.begin() + static_cast<std::ptrdiff_t>((written_end - kLogBegin).value));
    written_end = wal.end();
    if (primary) primary->on_written();
  }
  void flush(bool spoiled = false) {
    if (streamed_end == wal.end()) return;
    const LsnRange range{std::exchange(streamed_end, wal.end()), wal.end()};
    flushed_end = wal.end();
    upstream.events.push_back(UpstreamChunk{range, xxh3_64(wal.at(range)) + (spoiled ? 1 : 0)});
    if (!spoiled) compared_most = wal.end();
  }
  Lsn record(std::size_t bytes = 200) {
    wal.record(bytes);
    write();
    return wal.end();
  }

  void turn() {
    now = now + microseconds(100);
    step(*primary, port, disk, upstream, now);
    for (const auto& bytes : network.take(kReplicaId)) {
      protocol::Frame frame;
      ASSERT_EQ(protocol::decode(bytes, frame), protocol::Verdict::kAccepted);
      ASSERT_LE(frame.header.confirmed_end, std::max(compared_most, wal.begin()));
      ASSERT_LE(frame.header.flushed_end, flushed_end);
      confirmed_told = std::max(confirmed_told, frame.header.confirmed_end);
      heard = frame.header;
      std::visit([&](const auto& body) { on_body(body); }, frame.body);
    }
  }
  void run(Duration duration = milliseconds(50)) {
    for (const Instant end = now + duration; now < end;) turn();
  }

  // ---- The replica: its log is `held`, durable to its end.

  Lsn held_end() const { return kLogBegin + ByteCount{held.size()}; }
  void hold(Lsn end) {
    const auto bytes = wal.at({kLogBegin, end});
    held.assign(bytes.begin(), bytes.end());
  }
  std::byte& held_at(Lsn at) { return held.at((at - kLogBegin).value); }
  bool holds_the_wal() { return std::ranges::equal(held, wal.at({kLogBegin, held_end()})); }
  std::string state() { return primary->snapshot(now).primary.replicas[0].state; }
  std::string reason() { return primary->snapshot(now).primary.replicas[0].reason; }

  void say(const protocol::Body& body) {
    protocol::FrameHeader header;
    header.cluster = kSystem, header.source = kReplicaId, header.destination = kPrimaryId;
    header.session = heard.session, header.epoch = heard.epoch, header.timeline = TimelineId{1};
    header.packet_number = ++packet_number;
    Network::Wire bytes(protocol::kControlBytesMax);
    bytes.resize(protocol::encode(header, body, bytes));
    network.inject(kPrimaryId, bytes);
  }
  void acknowledge() {
    protocol::Ack ack;
    ack.received_end = ack.durable_end = ack.applied_end = held_end();
    ack.final_end = final_end;
    ack.window_end = kFar;
    ack.echo_sent_at = heard.sent_at;
    ack.echo_flushed_end = heard.flushed_end, ack.echo_confirmed_end = heard.confirmed_end;
    ack.policy_version = policy_version;
    ack.log_only = true;
    say(ack);
  }

  void on_body(const auto&) {}
  void on_body(const protocol::Hello&) {
    adopted = {};
    say(protocol::Welcome{log_id, "b1", held_epoch, held_end(), kLogBegin, held_end(), final_end, final_end, kFar,
                          policy_version, false, true});
  }
  void on_body(const protocol::DigestRequest& request) {
    protocol::DigestReply reply;
    for (Lsn at = request.range.begin; at < request.range.end;) {
      const Lsn end = std::min(request.range.end, align_down(at, wal::kBlockBytes) + ByteCount{wal::kBlockBytes});
      const auto bytes = std::span(held).subspan((at - kLogBegin).value, (end - at).value);
      reply.digests.push_back({{at, end}, xxh3_128(bytes)});
      at = end;
    }
    say(reply);
  }
  void on_body(const protocol::Refuse& refuse) { refused = refuse; }
  void on_body(const protocol::Cut& told) {
    cut = told;
    if (!obeys_cuts) return;
    held.resize((told.from - kLogBegin).value);  // And it is opened anew: it knows of no session.
    say(protocol::Refuse{protocol::RefuseReason::kNoSession, {}, {}, ""});
  }
  void on_body(const protocol::Adopt& adopt) {
    adopted = adopt.adopted_end;
    held_epoch = heard.epoch;
    acknowledge();
  }
  void on_body(const protocol::PolicyUpdate& told) {
    policy_version = told.version;
    acknowledge();
  }
  void on_body(const protocol::Probe&) {
    if (adopted) acknowledge();
  }
  void on_body(const protocol::Data& data) {
    if (heard.position == held_end()) held.insert(held.end(), data.payload.begin(), data.payload.end());
    acknowledge();
  }

  Network network;
  FakePort port{network, kPrimaryId};
  FakeDisk disk{kLogBegin};
  FakeUpstream upstream;
  wal::WalWriter wal{kLogBegin, kSegmentSize, kSystem};
  std::unique_ptr<std::byte[]> ring = std::make_unique_for_overwrite<std::byte[]>(kRingBytes);
  std::unique_ptr<std::byte[]> catch_up = std::make_unique_for_overwrite<std::byte[]>(kRingBytes);
  std::unique_ptr<PrimaryNode> primary;
  Instant now{1'000'000'000};
  Lsn written_end = kLogBegin, streamed_end, flushed_end;
  Lsn compared_most, confirmed_told;

  std::vector<std::byte> held;
  LogId log_id{{7, 2}};
  Epoch held_epoch;
  Lsn final_end = kLogBegin;
  std::uint64_t policy_version = 0, packet_number = 0;
  protocol::FrameHeader heard;
  std::optional<protocol::Refuse> refused;
  std::optional<protocol::Cut> cut;
  std::optional<Lsn> adopted;
  bool obeys_cuts = true;
};

}  // namespace slipstream::node
