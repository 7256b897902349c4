#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "wal/crc32c.h"
#include "wal/segment.h"

namespace slipstream::node {

// Makes WAL as PostgreSQL 15 does: pages, long headers at segments' starts, records with links and CRCs. (xlogrecord.h,
// xlog_internal.h)
class WalWriter {
 public:
  WalWriter(Lsn begin, ByteCount segment_size, SystemId system)
      : layout_(segment_size), system_(system), begin_(begin) {}

  // Appends a record with `payload_bytes` of payload, all of the value `fill`; returns its end.
  Lsn record(std::size_t payload_bytes, std::uint8_t fill = 0x5a) {
    return record_of(10, 0, std::vector<std::byte>(payload_bytes, std::byte{fill}));
  }
  // Appends an XLOG_SWITCH record and the rest of its segment, zeros; returns the record's end.
  Lsn switch_segment() {
    const Lsn switched = record_of(0, 0x40, {});
    while (layout_.offset_of(end()) != 0) bytes_.push_back(std::byte{0});
    return switched;
  }
  Lsn begin() const { return begin_; }
  Lsn end() const { return begin_ + ByteCount{bytes_.size()}; }
  std::span<std::byte> at(LsnRange range) {
    return std::span(bytes_).subspan((range.begin - begin_).value, range.size().value);
  }
  // Forgets everything from `end` on (the server lost it).
  void cut(Lsn end, Lsn previous) {
    bytes_.resize((end - begin_).value);
    previous_ = previous;
  }
  Lsn previous() const { return previous_; }
  // After cut() at a page's begin, within a record: the server goes on without that record, as the next page says.
  void abandon_record() { abandoned_ = true; }

 private:
  Lsn record_of(std::uint8_t resource, std::uint8_t info, const std::vector<std::byte>& payload) {
    if (end().value % wal::kPageBytes == 0) page_header(0);
    const Lsn at = end();
    std::vector<std::byte> bytes(24);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    ByteWriter header(bytes);
    header.le(static_cast<std::uint32_t>(bytes.size()));
    header.le(std::uint32_t{7});
    header.le(previous_.value);
    header.le(info);
    header.le(resource);
    header.le(std::uint16_t{0});
    wal::Crc32c crc;
    crc.add(std::span(bytes).subspan(24));
    crc.add(std::span(bytes).first(20));
    header.le(crc.value());
    previous_ = at;
    put(bytes);
    while (end().value % 8 != 0) bytes_.push_back(std::byte{0});
    return end();
  }
  void put(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (end().value % wal::kPageBytes == 0) page_header(static_cast<std::uint32_t>(bytes.size()));
      const auto room = static_cast<std::size_t>(wal::kPageBytes - end().value % wal::kPageBytes);
      const auto piece = bytes.first(std::min(room, bytes.size()));
      bytes_.insert(bytes_.end(), piece.begin(), piece.end());
      bytes = bytes.subspan(piece.size());
    }
  }
  void page_header(std::uint32_t remaining) {
    const bool long_header = layout_.offset_of(end()) == 0;
    std::vector<std::byte> bytes(long_header ? 40 : 24);
    ByteWriter header(bytes);
    header.le(std::uint16_t{0xD110});
    header.le(static_cast<std::uint16_t>((remaining > 0 ? 1 : 0) | (long_header ? 2 : 0) | (abandoned_ ? 8 : 0)));
    abandoned_ = false;
    header.le(std::uint32_t{1});
    header.le(end().value);
    header.le(remaining);
    header.le(std::uint32_t{0});
    if (long_header) {
      header.le(system_.value);
      header.le(static_cast<std::uint32_t>(layout_.segment_size().value));
      header.le(static_cast<std::uint32_t>(wal::kPageBytes));
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  wal::SegmentLayout layout_;
  SystemId system_;
  Lsn begin_;
  Lsn previous_{};
  bool abandoned_ = false;
  std::vector<std::byte> bytes_;
};

}  // namespace slipstream::node
