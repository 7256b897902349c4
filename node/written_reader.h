#pragma once

#include <optional>
#include <span>

#include "node/io.h"
#include "node/ship_log.h"
#include "wal/scanner.h"

namespace slipstream::node {

// Takes WAL into the ship log as soon as PostgreSQL has written it to its files, before it is flushed: complete, valid
// records only, found by the scanner behind the log's end. Guarantees: (1) A batch ends at a record's end; all of its
// bytes were checked from a position that PostgreSQL had confirmed: the rest of a segment behind a switch is not among
// them. (2) It stays within kAheadMax of what is confirmed,
// which memory holds. (3) It reads at most one range at a time, and none while somebody else reads behind the log's
// end.
class WrittenReader {
 public:
  static constexpr std::uint64_t kAheadMax = 1u << 20;

  explicit WrittenReader(ShipLog& log) : log_(log) {}

  // The log begins anew at `begin`, a page's begin.
  void restart(wal::SegmentLayout layout, wal::Scanner::Expect expect, Lsn begin);
  void stop();  // Until the next restart.
  void allow(bool allowed) { allowed_ = allowed; }
  void on_written() { news_ = true; }  // To any place in the files.

  // Where to read next, reserved in the ring.
  std::optional<LsnRange> next_range(Lsn confirmed_end);
  // Of the last commit seen whose client waits for its being applied; 0 while stopped.
  Lsn apply_awaited_end() const { return scanner_ ? scanner_->apply_awaited_end() : Lsn{}; }
  bool reading() const { return reading_.has_value(); }
  // Its bytes are in memory. What is complete and valid is appended to the log.
  void on_read(DiskStatus status);
  void on_read_lost() { reading_.reset(); }  // The connection it was for is gone.
  void on_confirmed();                       // The log has grown by what PostgreSQL had flushed.

 private:
  void scan_log();
  void append_valid();
  bool scan(LsnRange range);
  void resume();

  ShipLog& log_;
  std::optional<wal::Scanner> scanner_;
  std::optional<wal::SegmentLayout> layout_;  // None while stopped.
  wal::Scanner::Expect expect_;
  Lsn resume_at_{};       // Without a scanner: the page from which one begins, once it is confirmed.
  bool chained_ = false;  // It has seen a whole record in what was confirmed, so the next one's link can be checked.
  std::optional<LsnRange> reading_;
  std::uint64_t window_ = 0;
  bool allowed_ = false;
  bool news_ = false;
};

}  // namespace slipstream::node
