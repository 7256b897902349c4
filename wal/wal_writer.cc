#include "wal/wal_writer.h"

#include <algorithm>

#include "base/bytes.h"
#include "wal/crc32c.h"

namespace slipstream::wal {
namespace {

constexpr std::uint16_t kMagic = 0xD110;  // PostgreSQL 15's.
constexpr std::uint8_t kXlogResource = 0, kSwitch = 0x40, kNoop = 0x20;
constexpr std::size_t kHeaderBytes = 24, kCrcAt = 20;
constexpr std::uint16_t kContinues = 1, kLongHeader = 2, kOverwritesContinuation = 8;

// The main data's own header: short or long, with the number of bytes that follow it.
void put_data_header(std::span<std::byte> payload) {
  constexpr std::size_t kShort = 2, kLong = 5, kShortMost = 255;
  if (payload.size() < kShort) return;
  ByteWriter header(payload);
  if (payload.size() <= kShort + kShortMost) {
    header.le(std::uint8_t{255});
    header.le(static_cast<std::uint8_t>(payload.size() - kShort));
  } else {
    header.le(std::uint8_t{254});
    header.le(static_cast<std::uint32_t>(payload.size() - kLong));
  }
}

}  // namespace

Lsn WalWriter::record(std::size_t payload_bytes, std::uint8_t fill) { return append(kNoop, payload_bytes, fill); }

Lsn WalWriter::switch_segment() {
  const Lsn switched = append(kSwitch, 0, 0);
  bytes_.resize((layout_.segment_end(Lsn{end().value - 1}) - begin_).value);
  return switched;
}

void WalWriter::forget() {
  begin_ = end();
  bytes_.clear();
}

void WalWriter::cut(Lsn end, Lsn previous) {
  bytes_.resize((end - begin_).value);
  previous_ = previous;
}

Lsn WalWriter::append(std::uint8_t info, std::size_t payload_bytes, std::uint8_t fill) {
  if (end().value % kPageBytes == 0) page_header(0);
  const Lsn at = end();
  record_.assign(kHeaderBytes + payload_bytes, std::byte{fill});
  put_data_header(std::span(record_).subspan(kHeaderBytes));
  ByteWriter header(record_);
  header.le(static_cast<std::uint32_t>(record_.size()));
  header.le(std::uint32_t{7});  // The transaction's.
  header.le(previous_.value);
  header.le(info);
  header.le(kXlogResource);
  header.le(std::uint16_t{0});
  Crc32c crc;
  crc.add(std::span(record_).subspan(kHeaderBytes));
  crc.add(std::span(record_).first(kCrcAt));
  header.le(crc.value());
  previous_ = at;
  put(record_);
  while (end().value % 8 != 0) bytes_.push_back(std::byte{0});
  return end();
}

void WalWriter::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (end().value % kPageBytes == 0) page_header(static_cast<std::uint32_t>(bytes.size()));
    const auto room = static_cast<std::size_t>(kPageBytes - end().value % kPageBytes);
    const auto piece = bytes.first(std::min(room, bytes.size()));
    bytes_.insert(bytes_.end(), piece.begin(), piece.end());
    bytes = bytes.subspan(piece.size());
  }
}

void WalWriter::page_header(std::uint32_t remaining) {
  const bool is_long = layout_.offset_of(end()) == 0;
  std::array<std::byte, 40> bytes{};
  ByteWriter header(bytes);
  header.le(kMagic);
  header.le(static_cast<std::uint16_t>((remaining > 0 ? kContinues : 0) | (is_long ? kLongHeader : 0) |
                                       (abandoned_ ? kOverwritesContinuation : 0)));
  abandoned_ = false;
  header.le(std::uint32_t{1});  // Timeline.
  header.le(end().value);
  header.le(remaining);
  header.le(std::uint32_t{0});
  if (is_long) {
    header.le(system_.value);
    header.le(static_cast<std::uint32_t>(layout_.segment_size().value));
    header.le(static_cast<std::uint32_t>(kPageBytes));
  }
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.begin() + (is_long ? 40 : 24));
}

}  // namespace slipstream::wal
