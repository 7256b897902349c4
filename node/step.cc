#include "node/step.h"

#include <algorithm>
#include <array>

namespace slipstream::node {
namespace {

constexpr std::size_t kBurst = 64;

template <class Node>
bool take_frames(Node& node, Port& port, Instant now) {
  std::array<protocol::Arrival, kBurst> frames;
  port.begin_turn(now);
  const std::size_t count = port.receive(frames);
  for (std::size_t i = 0; i < count; ++i) (void)node.on_frame(frames[i], now);
  return count > 0;
}

template <class Node>
bool take_completions(Node& node, Disk& disk, Instant now) {
  std::array<DiskDone, kBurst> done;
  const std::size_t count = disk.complete(done);
  for (std::size_t i = 0; i < count; ++i) node.on_disk(done[i], now);
  return count > 0;
}

template <class Node>
bool send_frames(Node& node, Port& port, NodeId peer, Instant now) {
  OutFrame frame;
  bool sent = false;
  const std::size_t bytes = port.frame_bytes_max(peer);
  for (std::size_t room = std::min(port.room(peer), kBurst); room > 0 && node.next_frame(peer, bytes, frame, now);
       --room) {
    port.send(peer, frame);
    sent = true;
  }
  return sent;
}

// An operation that the disk does not take now waits here for the next turn.
template <class Op, class Next, class Submit>
bool submit_all(std::optional<Op>& held, Next next, Submit submit) {
  bool any = false;
  for (std::size_t i = 0; i < kBurst; ++i) {
    if (!held) held = next();
    if (!held || !submit(*held)) return any;
    held.reset();
    any = true;
  }
  return any;
}

}  // namespace

bool step(PrimaryNode& node, Port& port, Disk& disk, Upstream& upstream, Instant now) {
  return step(node, node.held(), port, disk, upstream, now);
}

bool step(ReplicaNode& node, Port& port, Disk& disk, Standby& standby, NodeId primary, Instant now) {
  return step(node, node.held(), port, disk, standby, primary, now);
}

bool step(PrimaryNode& node, PrimaryHeld& held, Port& port, Disk& disk, Upstream& upstream, Instant now) {
  bool worked = take_frames(node, port, now);
  UpstreamEvent event;
  for (std::size_t i = 0; i < kBurst && node.wants_upstream() && upstream.next_event(event); ++i, worked = true)
    node.on_upstream(event, now);
  worked |= take_completions(node, disk, now);
  node.on_deadline(now);
  worked |= submit_all(
      held.persist, [&] { return node.next_persist(); },
      [&](PersistOp& op) { return disk.submit_persist(std::move(op)); });
  worked |=
      submit_all(held.read, [&] { return node.next_read(); }, [&](const ReadOp& op) { return disk.submit_read(op); });
  disk.start();
  for (const ack::Member& peer : node.peers()) worked |= send_frames(node, port, peer.id, now);
  port.flush();
  upstream.report(node.report());
  upstream.advance_slot(node.slot_end());
  upstream.feedback(node.feedback(now));
  if (node.take_reconnect()) upstream.reconnect();
  return worked;
}

bool step(ReplicaNode& node, ReplicaHeld& held, Port& port, Disk& disk, Standby& standby, NodeId primary, Instant now) {
  bool worked = take_frames(node, port, now);
  StandbyEvent event;
  for (std::size_t i = 0; i < kBurst && standby.next_event(event); ++i, worked = true) node.on_standby(event, now);
  worked |= take_completions(node, disk, now);
  node.on_deadline(now);
  worked |= submit_all(
      held.history, [&] { return node.next_history(); },
      [&](KeepHistoryOp& op) { return disk.submit_history(std::move(op)); });
  worked |= submit_all(
      held.persist, [&] { return node.next_persist(); },
      [&](PersistOp& op) { return disk.submit_persist(std::move(op)); });
  worked |= submit_all(
      held.write, [&] { return node.next_write(now); }, [&](const WriteOp& op) { return disk.submit_write(op); });
  worked |=
      submit_all(held.read, [&] { return node.next_read(); }, [&](const ReadOp& op) { return disk.submit_read(op); });
  disk.start();  // The disk takes longest.
  worked |= send_frames(node, port, primary, now);
  port.flush();
  standby.release(node.release());
  return worked;
}

}  // namespace slipstream::node
