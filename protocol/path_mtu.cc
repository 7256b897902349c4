#include "protocol/path_mtu.h"

namespace slipstream::protocol {
namespace {

constexpr int kTriesMax = 3;
constexpr std::size_t kStep = 16;  // Nearer than that to what does not pass, nothing is gained.
constexpr Duration kRaise = seconds(60);
// A busy host may answer late; nothing waits for a probe.
constexpr Duration kTimeoutLeast = milliseconds(20);
// Frames behind the IP and UDP headers of MTU 9000 and 1500.
constexpr std::size_t kCommon[] = {8972, 1472};

}  // namespace

void PathMtu::on_port(std::size_t frame_bytes_max) {
  if (frame_bytes_max == port_bytes_) return;
  port_bytes_ = std::min(frame_bytes_max, kFrameBytesMax);
  frame_bytes_ = std::clamp(frame_bytes_, base(), port_bytes_);
  due_ = {};
  restart();
}

void PathMtu::restart() {
  too_long_ = port_bytes_ + 1;
  tries_ = 0;
}

void PathMtu::set(std::size_t bytes, Instant now) {
  frame_bytes_ = bytes;
  changed_ = due_ = now;
  tries_ = 0;
}

void PathMtu::on_reply(const PathReply& reply, Instant now) {
  if (reply.number < counts_from_ || reply.number > number_) return;
  if (reply.frame_bytes <= frame_bytes_ || reply.frame_bytes > port_bytes_) return;
  if (reply.frame_bytes >= too_long_) restart();
  set(reply.frame_bytes, now);
}

void PathMtu::on_black_hole(Instant now) {
  counts_from_ = number_ + 1;
  passed_ = frame_bytes_;
  set(base(), now);
  restart();
}

std::optional<std::size_t> PathMtu::candidate() const {
  if (too_long_ - frame_bytes_ == 1) return std::nullopt;
  if (passed_ > frame_bytes_ && passed_ < too_long_) return passed_;
  if (too_long_ > port_bytes_) return port_bytes_;
  for (const std::size_t common : kCommon)
    if (common > frame_bytes_ && common < too_long_) return common;
  if (too_long_ - frame_bytes_ <= kStep) return std::nullopt;
  return frame_bytes_ + (too_long_ - frame_bytes_) / 2;
}

std::optional<PathProbe> PathMtu::next_probe(Duration timeout, Instant now) {
  if (port_bytes_ == 0 || now < due_) return std::nullopt;
  if (tries_ == kTriesMax) {
    too_long_ = *candidate();
    tries_ = 0;
  }
  const auto bytes = candidate();
  if (!bytes) {
    // Once more from the top, when there is more to be had.
    due_ = frame_bytes_ < port_bytes_ ? now + kRaise : kNever;
    restart();
    return std::nullopt;
  }
  ++tries_;
  due_ = now + std::max(timeout, kTimeoutLeast);
  return PathProbe{++number_, static_cast<std::uint32_t>(*bytes)};
}

}  // namespace slipstream::protocol
