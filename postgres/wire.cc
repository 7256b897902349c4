#include "postgres/wire.h"

#include <sys/time.h>

#include "base/bytes.h"

namespace slipstream::postgres {
namespace {

constexpr std::int64_t kEpochUs = 946'684'800'000'000;  // 2000-01-01 in the Unix count.

std::int64_t signed_of(std::uint64_t v) { return static_cast<std::int64_t>(v); }

}  // namespace

std::optional<XLogData> decode_xlog_data(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'w') return std::nullopt;
  XLogData out;
  out.start.value = in.be<std::uint64_t>(), out.wal_end.value = in.be<std::uint64_t>(),
  out.time_us = signed_of(in.be<std::uint64_t>());
  out.payload = in.bytes(in.remaining());
  if (!in.ok() || out.start.value > UINT64_MAX - out.payload.size()) return std::nullopt;
  return out;
}

std::optional<Keepalive> decode_keepalive(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'k') return std::nullopt;
  Keepalive out;
  out.wal_end.value = in.be<std::uint64_t>(), out.time_us = signed_of(in.be<std::uint64_t>()),
  out.reply_requested = in.le<std::uint8_t>() != 0;
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::optional<StandbyStatus> decode_standby_status(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'r') return std::nullopt;
  StandbyStatus out;
  out.write.value = in.be<std::uint64_t>(), out.flush.value = in.be<std::uint64_t>(),
  out.apply.value = in.be<std::uint64_t>();
  out.time_us = signed_of(in.be<std::uint64_t>()), out.reply_requested = in.le<std::uint8_t>() != 0;
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::optional<HotStandbyFeedback> decode_feedback(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'h') return std::nullopt;
  HotStandbyFeedback out;
  out.time_us = signed_of(in.be<std::uint64_t>()), out.xmin = in.be<std::uint32_t>(),
  out.xmin_epoch = in.be<std::uint32_t>();
  out.catalog_xmin = in.be<std::uint32_t>(), out.catalog_xmin_epoch = in.be<std::uint32_t>();
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::vector<std::byte> encode(const StandbyStatus& status) {
  std::vector<std::byte> out(34);
  ByteWriter writer(out);
  writer.le(static_cast<std::uint8_t>('r'));
  writer.be(status.write.value), writer.be(status.flush.value), writer.be(status.apply.value),
      writer.be(static_cast<std::uint64_t>(status.time_us));
  writer.le(static_cast<std::uint8_t>(status.reply_requested));
  return out;
}

std::vector<std::byte> encode(const HotStandbyFeedback& feedback) {
  std::vector<std::byte> out(25);
  ByteWriter writer(out);
  writer.le(static_cast<std::uint8_t>('h'));
  writer.be(static_cast<std::uint64_t>(feedback.time_us));
  writer.be(feedback.xmin), writer.be(feedback.xmin_epoch);
  writer.be(feedback.catalog_xmin), writer.be(feedback.catalog_xmin_epoch);
  return out;
}

std::int64_t now_us() {
  timeval now{};
  gettimeofday(&now, nullptr);
  return now.tv_sec * 1'000'000 + now.tv_usec - kEpochUs;
}

}  // namespace slipstream::postgres
