#include "wal/scanner.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace slipstream::wal {
namespace {

// xlog_internal.h: XLogPageHeaderData, XLogLongPageHeaderData; xlogrecord.h: XLogRecord.
constexpr std::size_t kShortHeader = 24;
constexpr std::size_t kLongHeader = 40;
constexpr std::size_t kRecordHeader = 24;
constexpr std::uint16_t kFirstIsContrecord = 0x0001;
constexpr std::uint16_t kLongHeaderFlag = 0x0002;
constexpr std::uint16_t kFirstIsOverwriteContrecord = 0x0008;
constexpr std::uint16_t kAllFlags = 0x000f;
constexpr std::uint8_t kRmXlog = 0;
constexpr std::uint8_t kXlogSwitch = 0x40;
constexpr std::uint8_t kInfoMask = 0xf0;  // The upper half belongs to the resource manager.
constexpr std::uint32_t kRecordBytesMax =
    1020u * 1024 * 1024;  // XLogRecordMaxSize (16); earlier ones cannot allocate more.

constexpr std::uint64_t round_up_8(std::uint64_t n) { return (n + 7) & ~std::uint64_t{7}; }

}  // namespace

std::string_view version_of_magic(std::uint16_t magic) {
  switch (magic) {
    case 0xD106:
      return "13";
    case 0xD10D:
      return "14";
    case 0xD110:
      return "15";
    case 0xD113:
      return "16";
    case 0xD116:
      return "17";
    case 0xD118:
      return "18";
    default:
      return {};
  }
}

bool unchecked_before(std::span<const std::byte, 4> page, bool first_of_segment) {
  const auto info = ByteReader(page.subspan<2>()).le<std::uint16_t>();
  return (info & kFirstIsOverwriteContrecord) != 0 || (first_of_segment && (info & kFirstIsContrecord) == 0);
}

std::string_view to_string(ScanFault fault) {
  switch (fault) {
    case ScanFault::kNone:
      return "none";
    case ScanFault::kPageMagic:
      return "page magic";
    case ScanFault::kPageAddress:
      return "page address";
    case ScanFault::kPageTimeline:
      return "page timeline";
    case ScanFault::kPageFlags:
      return "page flags";
    case ScanFault::kSegmentHeader:
      return "segment header";
    case ScanFault::kRecordLength:
      return "record length";
    case ScanFault::kRecordPrevious:
      return "record's previous position";
    case ScanFault::kRecordResource:
      return "record's resource manager";
    case ScanFault::kRecordCrc:
      return "record checksum";
    case ScanFault::kEnd:
      return "end of what was written";
  }
  return "unknown";
}

Scanner::Scanner(SegmentLayout layout, Lsn begin, Start start, Expect expect)
    : layout_(layout), expect_(expect), at_(begin), valid_end_(begin) {
  restart(begin, start);
}

void Scanner::restart(Lsn begin, Start start) {
  at_ = begin;
  valid_end_ = std::max(valid_end_, begin);
  fault_ = ScanFault::kNone;
  held_bytes_ = 0;
  body_left_ = 0;
  padding_ends_record_ = false;
  skipped_end_.reset();
  const bool on_page = begin.value % kPageBytes == 0;
  CHECK(start != Start::kPage || on_page);
  at_page_start_ = start == Start::kPage;
  if (at_page_start_) record_begin_ = Lsn{0};
  after_page_ = State::kRecordHeader;
  state_ = on_page ? State::kPageHeader : State::kRecordHeader;
  current_begin_ = begin;
  ended_by_switch_ = start == Start::kSwitched;
  if (ended_by_switch_ && layout_.offset_of(begin) != 0) {
    body_left_ = (layout_.segment_end(begin) - begin).value;
    state_ = State::kSkipSegment;
  }
}

void Scanner::on_bytes(std::span<const std::byte> bytes) {
  while (!bytes.empty() && fault_ == ScanFault::kNone) {
    std::size_t taken = 0;
    switch (state_) {
      case State::kPageHeader:
        taken = take_page_header(bytes);
        break;
      case State::kRecordHeader:
        taken = take_record_header(bytes);
        break;
      case State::kRecordBody:
        taken = take_record_body(bytes);
        break;
      case State::kPadding:
      case State::kSkipContinuation:
      case State::kSkipSegment:
        taken = skip(bytes);
        break;
    }
    bytes = bytes.subspan(taken);
  }
}

// Collects bytes of a header that may arrive in pieces or straddle pages.
std::size_t Scanner::fill(std::span<const std::byte> bytes, std::size_t wanted) {
  const std::size_t count = std::min(bytes.size(), wanted - held_bytes_);
  std::copy_n(bytes.begin(), count, held_.begin() + static_cast<std::ptrdiff_t>(held_bytes_));
  held_bytes_ += count;
  return count;
}

std::size_t Scanner::take_page_header(std::span<const std::byte> bytes) {
  const Lsn page = align_down(at_, kPageBytes);
  const bool long_header = layout_.offset_of(page) == 0;
  const std::size_t wanted = long_header ? kLongHeader : kShortHeader;
  // A record header that straddles pages keeps its own held bytes: the page header is held apart, behind them.
  std::size_t have = static_cast<std::size_t>((at_ - page).value);
  const std::size_t count = std::min(bytes.size(), wanted - have);
  std::copy_n(bytes.begin(), count, page_held_.begin() + static_cast<std::ptrdiff_t>(have));
  have += count;
  if (have < wanted) {
    at_ = at_ + ByteCount{count};
    return count;
  }
  const ScanFault fault = check_page_header();
  if (fault != ScanFault::kNone) {
    fault_ = fault;
    at_ = page;
    return count;
  }
  at_ = page + ByteCount{wanted};
  return count;
}

ScanFault Scanner::check_page_header() {
  const Lsn page = align_down(at_, kPageBytes);
  ByteReader reader(page_held_);
  const auto magic = reader.le<std::uint16_t>();
  const auto info = reader.le<std::uint16_t>();
  const TimelineId timeline{reader.le<std::uint32_t>()};
  const Lsn address{reader.le<std::uint64_t>()};
  const auto remaining = reader.le<std::uint32_t>();
  if (magic == 0 && info == 0 && address.value == 0) return ScanFault::kEnd;
  if (version_of_magic(magic).empty() || (magic_ != 0 && magic != magic_)) return ScanFault::kPageMagic;
  if (address != page) return ScanFault::kPageAddress;
  if (timeline.value == 0 || timeline < page_timeline_ || (expect_.timeline.value != 0 && timeline > expect_.timeline))
    return ScanFault::kPageTimeline;
  const bool long_header = layout_.offset_of(page) == 0;
  if ((info & ~kAllFlags) != 0 || ((info & kLongHeaderFlag) != 0) != long_header) return ScanFault::kPageFlags;
  if (long_header) {
    reader.bytes(4);  // Padding of the short header.
    const SystemId system{reader.le<std::uint64_t>()};
    const auto segment_size = reader.le<std::uint32_t>();
    const auto page_size = reader.le<std::uint32_t>();
    if (segment_size != layout_.segment_size().value || page_size != kPageBytes) return ScanFault::kSegmentHeader;
    if (expect_.system.value != 0 && system != expect_.system) return ScanFault::kSegmentHeader;
    expect_.system = system;
  }
  const bool continues = (info & kFirstIsContrecord) != 0;
  if (continues != (remaining != 0)) return ScanFault::kPageFlags;

  if (after_page_ == State::kRecordHeader && held_bytes_ == 0) {  // Between records.
    if (continues && !at_page_start_) return ScanFault::kPageFlags;
    body_left_ = continues ? remaining : 0;
    state_ = continues ? State::kSkipContinuation : State::kRecordHeader;
  } else if ((info & kFirstIsOverwriteContrecord) !=
             0) {  // The record before was never finished: PostgreSQL went on without it.
    if (continues) return ScanFault::kPageFlags;
    held_bytes_ = 0;
    continuation_ = 0;  // Its header may have straddled two pages.
    body_left_ = 0;
    state_ = after_page_ = State::kRecordHeader;
  } else {
    const std::uint64_t owed = after_page_ == State::kRecordHeader ? 0 : body_left_;
    if (!continues || (owed != 0 && remaining != owed)) return ScanFault::kPageFlags;
    if (after_page_ == State::kRecordHeader) {
      continuation_ = remaining;
      continued_from_ = held_bytes_;
    }
    state_ = after_page_;
  }
  magic_ = magic;
  page_timeline_ = timeline;
  at_page_start_ = false;
  return ScanFault::kNone;
}

void Scanner::begin_record() {
  held_bytes_ = 0;
  continuation_ = 0;
  const bool page_end = at_.value % kPageBytes == 0;
  after_page_ = State::kRecordHeader;
  state_ = page_end ? State::kPageHeader : State::kRecordHeader;
}

std::size_t Scanner::take_record_header(std::span<const std::byte> bytes) {
  if (held_bytes_ == 0) current_begin_ = at_;
  const std::size_t count = fill(bytes.first(std::min<std::size_t>(bytes.size(), left_on_page())), kRecordHeader);
  at_ = at_ + ByteCount{count};
  // The length's four bytes are always together; zeros there are the end, whatever follows.
  if (held_bytes_ >= 4) {
    const std::uint32_t length = ByteReader(held_).le<std::uint32_t>();
    if (length == 0) {
      fault_ = ScanFault::kEnd;
      at_ = current_begin_;
      return count;
    }
  }
  if (held_bytes_ < kRecordHeader) {
    if (at_.value % kPageBytes == 0) {
      after_page_ = State::kRecordHeader;
      state_ = State::kPageHeader;
    }
    return count;
  }
  fault_ = check_record_header();
  if (fault_ != ScanFault::kNone) {
    at_ = current_begin_;
    return count;
  }
  state_ = State::kRecordBody;
  if (body_left_ == 0)
    finish_record();
  else if (at_.value % kPageBytes == 0) {
    after_page_ = State::kRecordBody;
    state_ = State::kPageHeader;
  }
  return count;
}

ScanFault Scanner::check_record_header() {
  ByteReader reader(held_);
  const auto length = reader.le<std::uint32_t>();
  reader.le<std::uint32_t>();  // Transaction.
  const Lsn previous{reader.le<std::uint64_t>()};
  const auto info = reader.le<std::uint8_t>();
  const auto resource = reader.le<std::uint8_t>();
  const auto padding = reader.le<std::uint16_t>();
  wanted_crc_ = reader.le<std::uint32_t>();
  if (length < kRecordHeader || length > kRecordBytesMax) return ScanFault::kRecordLength;
  if (record_begin_.value != 0 ? previous != record_begin_ : previous >= current_begin_)
    return ScanFault::kRecordPrevious;
  if ((resource > 32 && resource < 128) || padding != 0)
    return ScanFault::kRecordResource;  // 128 and up: extensions' (15+).
  // A header that straddled pages was announced by the second page: what remained there must add up.
  if (continuation_ != 0 && continuation_ != length - continued_from_) return ScanFault::kPageFlags;
  body_left_ = length - kRecordHeader;
  crc_ = Crc32c{};
  std::copy_n(held_.begin(), crc_header_.size(), crc_header_.begin());
  commit_.begin(resource, info);
  is_switch_ = resource == kRmXlog && (info & kInfoMask) == kXlogSwitch;
  if (is_switch_ && length != kRecordHeader) return ScanFault::kRecordLength;
  return ScanFault::kNone;
}

std::size_t Scanner::take_record_body(std::span<const std::byte> bytes) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>({bytes.size(), left_on_page(), body_left_}));
  crc_.add(bytes.first(count));
  commit_.on_body(bytes.first(count));
  at_ = at_ + ByteCount{count};
  body_left_ -= count;
  if (body_left_ == 0) {
    finish_record();
  } else if (at_.value % kPageBytes == 0) {
    after_page_ = State::kRecordBody;
    state_ = State::kPageHeader;
  }
  return count;
}

void Scanner::finish_record() {
  crc_.add(crc_header_);
  if (crc_.value() != wanted_crc_) {
    fault_ = ScanFault::kRecordCrc;
    at_ = current_begin_;
    return;
  }
  const Lsn end{round_up_8(at_.value)};
  if (is_switch_ && layout_.offset_of(end) != 0) {
    count_record();
    body_left_ = layout_.segment_end(at_).value - at_.value;
    state_ = State::kSkipSegment;
  } else if (end != at_) {
    body_left_ = end.value - at_.value;
    state_ = State::kPadding;
    padding_ends_record_ = true;
  } else {
    count_record();
    begin_record();
  }
}

// Only with its padding is a record complete: valid_end() never passes the bytes that were seen.
void Scanner::count_record() {
  record_begin_ = current_begin_;
  ++records_;
  ended_by_switch_ = is_switch_;
  valid_end_ = std::max(valid_end_, at_);
  if (commit_.awaits_apply()) apply_awaited_end_ = std::max(apply_awaited_end_, at_);
}

// Padding, a continuation whose record we never saw, or the rest of a switched segment.
std::size_t Scanner::skip(std::span<const std::byte> bytes) {
  const std::uint64_t limit = state_ == State::kSkipContinuation ? left_on_page() : body_left_;
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>({bytes.size(), limit, body_left_}));
  at_ = at_ + ByteCount{count};
  body_left_ -= count;
  if (body_left_ == 0) {
    if (state_ == State::kSkipContinuation) skipped_end_ = at_;
    if (state_ == State::kSkipContinuation && at_.value % 8 != 0) {
      body_left_ = 8 - at_.value % 8;
      state_ = State::kPadding;
    } else {
      if (std::exchange(padding_ends_record_, false)) count_record();
      begin_record();
    }
  } else if (state_ == State::kSkipContinuation && at_.value % kPageBytes == 0) {
    after_page_ = State::kSkipContinuation;
    state_ = State::kPageHeader;
  }
  return count;
}

}  // namespace slipstream::wal
