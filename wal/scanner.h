#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/lsn.h"
#include "base/ids.h"
#include "wal/crc32c.h"
#include "wal/segment.h"

namespace slipstream::wal {

// Why a scan stopped: the first byte of a stream of WAL that cannot be a complete, valid record's.
enum class ScanFault : std::uint8_t {
  kNone,
  kPageMagic,       // Not a page header of a PostgreSQL version we know, or another version than before.
  kPageAddress,     // A page header that belongs to another position: a recycled segment's old page.
  kPageTimeline,    // Timeline fell, or is not the stream's.
  kPageFlags,       // Continuation flag or remaining length do not fit the record that is being continued.
  kSegmentHeader,   // Long header: other system identifier, segment size or page size.
  kRecordLength,    // Shorter than a header or longer than 1 GiB + headroom.
  kRecordPrevious,  // xl_prev does not point at the record before.
  kRecordResource,  // Resource manager out of range, or non-zero padding in the header.
  kRecordCrc,
  kEnd,             // Zeros where a record's length should be: nothing written yet.
};
std::string_view to_string(ScanFault fault);

// Finds the ends of complete, valid WAL records in bytes that arrive in order, cut anywhere. Streaming and resumable: it
// keeps a few dozen bytes of state however long a record is (up to 1 GiB), never the record.
//
// Guarantees: (1) valid_end() is the start position, or the exclusive end of a record whose page headers, links and
//   CRC-32C were all checked; it never falls. (2) A record's end is rounded up to 8 bytes; at a page boundary it is the
//   boundary itself, not past the next page's header (PostgreSQL reports commits so). (3) The result does not depend on how the bytes
//   are cut. (4) After a fault nothing moves until restart().
// After an XLOG_SWITCH record valid_end() is that record's end; the rest of the segment is skipped whatever it holds, and the scan goes on
// at the next segment. A page flagged XLP_FIRST_IS_OVERWRITE_CONTRECORD ends the broken record before it: the scan
// goes on behind that page's header.
// Format: PostgreSQL's xlogrecord.h, xlog_internal.h, xlogreader.c (13 to 18).
class Scanner {
 public:
  // `begin` is a record's start (kRecord), or a page's (kPage: the continuation of an earlier record is skipped, unverified,
  // and the first record's xl_prev is taken as it is).
  enum class Start : std::uint8_t { kRecord, kPage };

  struct Expect {
    SystemId system;          // 0: take it from the first long header.
    TimelineId timeline;      // Newest allowed; 0: any. Pages may carry ancestors' timelines but never a falling one.
  };

  Scanner(SegmentLayout layout, Lsn begin, Start start, Expect expect);

  // The bytes at [scanned_end(), scanned_end() + bytes.size()). Ignored after a fault.
  void on_bytes(std::span<const std::byte> bytes);
  void restart(Lsn begin, Start start);  // Forgets the fault. valid_end() does not fall.

  Lsn scanned_end() const;  // Next byte wanted; at a fault, the offending record's or page's start.
  Lsn valid_end() const;
  Lsn record_begin() const; // Start of the last complete record (what the next one's xl_prev must be); 0 before the first.
  std::uint64_t records() const;
  ScanFault fault() const;
  std::uint16_t page_magic() const;  // 0 before the first page header.
  // private state: to be designed.
};

// "13".."18" for a known page magic, empty otherwise.
std::string_view version_of_magic(std::uint16_t page_magic);

}  // namespace slipstream::wal
