#include "node/last_record.h"

#include <algorithm>

namespace slipstream::node {
namespace {

// A record's length or a page header's first fields. In flushed WAL they are zeros only behind an XLOG_SWITCH record.
constexpr std::size_t kTellingBytes = 4;

}  // namespace

void LastRecord::aim(Lsn position) {
  position_ = position;
  end_.reset();
  look();
}

void LastRecord::on_bytes(std::span<const std::byte> bytes) {
  const auto below = static_cast<std::size_t>(
      std::min<std::uint64_t>(bytes.size(), position_ > seen_end_ ? (position_ - seen_end_).value : 0));
  scan(bytes.first(below));
  look();
  scan(bytes.subspan(below));
}

void LastRecord::scan(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (!scanner_) {
    using Start = wal::Scanner::Start;
    const bool on_page = begin_.value % wal::kPageBytes == 0;
    const bool zeros = bytes.size() >= kTellingBytes &&
                       std::ranges::all_of(bytes.first(kTellingBytes), [](std::byte b) { return b == std::byte{0}; });
    const Start start = zeros ? Start::kSwitched : on_page ? Start::kPage : Start::kRecord;
    begins_at_record_ = start != Start::kPage;
    scanner_.emplace(layout_, begin_, start, wal::Scanner::Expect{system_, {}});
  }
  scanner_->on_bytes(bytes);
  seen_end_ = seen_end_ + ByteCount{bytes.size()};
}

void LastRecord::look() {
  if (end_ || seen_end_ != position_) return;
  if (!scanner_)
    end_ = begin_;
  else if (scanner_->fault() == wal::ScanFault::kNone && (begins_at_record_ || scanner_->records() > 0))
    end_ = scanner_->valid_end();
}

}  // namespace slipstream::node
