#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "base/lsn.h"
#include "wal/commit_record.h"
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
  kEnd,  // Zeros where a record's length should be: nothing written yet.
};
std::string_view to_string(ScanFault fault);

// Finds the ends of complete, valid WAL records in bytes that arrive in order, cut anywhere. Streaming and resumable:
// it keeps a few dozen bytes of state however long a record is (up to 1 GiB), never the record.
//
// Guarantees: (1) valid_end() is the start position, or the exclusive end of a record whose page headers, links and
//   CRC-32C were all checked; it never falls. (2) A record's end is rounded up to 8 bytes; at a page boundary it is the
//   boundary itself, not past the next page's header (PostgreSQL reports commits so). (3) The result does not depend on
//   how the bytes are cut. (4) After a fault nothing moves until restart().
// After an XLOG_SWITCH record valid_end() is that record's end; the rest of the segment is skipped whatever it holds,
// and the scan goes on at the next segment. A page flagged XLP_FIRST_IS_OVERWRITE_CONTRECORD ends the broken record
// before it: the scan goes on behind that page's header. Format: PostgreSQL's xlogrecord.h, xlog_internal.h,
// xlogreader.c (13 to 18).
class Scanner {
 public:
  // `begin` is a record's start (kRecord), or a page's (kPage: the continuation of an earlier record is skipped,
  // unverified, and the first record's xl_prev is taken as it is). kSwitched: right behind an XLOG_SWITCH record, so
  // the rest of the segment is skipped.
  enum class Start : std::uint8_t { kRecord, kPage, kSwitched };

  struct Expect {
    SystemId system;      // 0: take it from the first long header.
    TimelineId timeline;  // Newest allowed; 0: any. Pages may carry ancestors' timelines but never a falling one.
  };

  Scanner(SegmentLayout layout, Lsn begin, Start start, Expect expect);

  // The bytes at [scanned_end(), scanned_end() + bytes.size()). Ignored after a fault.
  void on_bytes(std::span<const std::byte> bytes);
  void restart(Lsn begin, Start start);  // Forgets the fault. valid_end() does not fall.

  Lsn scanned_end() const { return at_; }  // Next byte wanted; at a fault, where the offending page or record was seen.
  Lsn valid_end() const { return valid_end_; }
  Lsn record_begin() const {
    return record_begin_;
  }  // Start of the last complete record (the next one's xl_prev); 0 before the first.
  Lsn apply_awaited_end() const {
    return apply_awaited_end_;
  }  // End of the last commit seen whose client waits for its being applied (commit_record.h).
  // kPage: where the continuation ends that was skipped, once that is known. No checksum covers those bytes.
  std::optional<Lsn> skipped_end() const { return skipped_end_; }
  std::uint64_t records() const { return records_; }
  Start next_start() const {
    return ended_by_switch_ ? Start::kSwitched : Start::kRecord;
  }  // To go on from valid_end() elsewhere.
  ScanFault fault() const { return fault_; }
  std::uint16_t page_magic() const { return magic_; }  // 0 before the first page header.

 private:
  enum class State : std::uint8_t {
    kPageHeader,
    kRecordHeader,
    kRecordBody,
    kPadding,
    kSkipContinuation,
    kSkipSegment
  };

  std::size_t take_page_header(std::span<const std::byte> bytes);
  std::size_t take_record_header(std::span<const std::byte> bytes);
  std::size_t take_record_body(std::span<const std::byte> bytes);
  std::size_t skip(std::span<const std::byte> bytes);
  std::size_t fill(std::span<const std::byte> bytes, std::size_t wanted);
  ScanFault check_page_header();
  ScanFault check_record_header();
  void finish_record();
  void count_record();
  void begin_record();
  std::uint64_t left_on_page() const { return kPageBytes - at_.value % kPageBytes; }

  SegmentLayout layout_;
  Expect expect_;
  Lsn at_;
  Lsn valid_end_;
  Lsn record_begin_{};
  Lsn apply_awaited_end_{};
  std::uint64_t records_ = 0;
  std::uint16_t magic_ = 0;
  ScanFault fault_ = ScanFault::kNone;
  TimelineId page_timeline_{};

  State state_ = State::kPageHeader;
  State after_page_ = State::kRecordHeader;  // What the bytes behind the page header are.
  std::array<std::byte, 40> page_held_{};    // A page header that arrives in pieces.
  std::array<std::byte, 24> held_{};         // A record header that arrives in pieces, perhaps on two pages.
  std::size_t held_bytes_ = 0;
  std::optional<Lsn> skipped_end_;
  bool at_page_start_ = true;    // The scan began at this page: its continuation is skipped, unverified.
  Lsn current_begin_{};          // Of the record being read.
  std::uint64_t body_left_ = 0;  // Bytes of it still to come, without page headers (and of a skipped continuation).
  std::uint32_t wanted_crc_ = 0;
  Crc32c crc_;
  std::array<std::byte, 20> crc_header_{};  // The header up to its crc, digested after the body.
  std::uint32_t continuation_ =
      0;  // What the page behind a straddling header says remains of the record; 0: it does not straddle.
  std::size_t continued_from_ = 0;  // Bytes of the header before that page.
  CommitRecord commit_;             // The record being read, if it is one.
  bool is_switch_ = false;
  bool padding_ends_record_ = false;
  bool ended_by_switch_ = false;  // The last complete record was one.
};

// Whether no record's checksum may cover what is right before this page, as its first four bytes tell: a record that
// was never finished, or the rest of a segment behind an XLOG_SWITCH.
bool unchecked_before(std::span<const std::byte, 4> page, bool first_of_segment);

// Major versions of which an excerpt of WAL is among the tests (tests/golden/wal, with the script that makes them). The
// scanner knows the page magics of others, which it was never shown.
constexpr std::array<std::uint32_t, 1> kSupportedVersions{15};

// "13".."18" for a known page magic, empty otherwise.
std::string_view version_of_magic(std::uint16_t page_magic);

}  // namespace slipstream::wal
