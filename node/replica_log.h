#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "node/io.h"
#include "wal/recovery.h"
#include "wal/scanner.h"

namespace slipstream::node {

// Brings received bytes from the ring to stable storage and finds the records in them.
// Guarantees: (1) durable_end() is the end of a complete, valid record all of which is on stable storage. (2) No two
// writes under way touch the same 4 KiB block.
//   (3) A write's bytes beyond what was received are zeros. (4) Bytes that no checksum covers are on stable storage
//   before anything behind them is written: the rest of a record that the log begins inside of, a record that
//   PostgreSQL never finished, the rest of a segment it switched from. So whatever records recovery finds, all before
//   them is there.
class ReplicaLog {
 public:
  static constexpr std::uint64_t kBlock = 4096;
  static constexpr std::size_t kTailBytesMax = 64 * 1024;
  static constexpr std::size_t kWritesMax = 8;

  ReplicaLog(wal::SegmentLayout layout, std::span<std::byte> ring, const wal::Recovered& recovered,
             wal::Scanner::Start start, wal::Scanner::Expect expect, std::uint32_t first_operation);

  void on_received(Lsn received_end);
  std::optional<WriteOp> next_write(Instant now);
  bool owns(std::uint32_t operation) const { return operation - first_operation_ < kWritesMax; }
  void on_written(std::uint32_t operation, DiskStatus status, Instant now);

  // Nothing is under way and everything received is on stable storage.
  bool settled() const { return synced_end_ == received_end_ && under_way() == 0; }
  // A new session begins behind the last complete record: bytes of an incomplete one come again.
  // That block of the ring is as it was: nothing else may be in use of it.
  void rewind();

  Lsn received_end() const { return received_end_; }
  Lsn synced_end() const { return synced_end_; }
  Lsn durable_end() const { return durable_end_; }
  Lsn apply_awaited_end() const { return scanner_.apply_awaited_end(); }
  Lsn last_record_begin() const { return scanner_.record_begin(); }
  wal::ScanFault fault() const { return scanner_.fault(); }
  Lsn fault_at() const { return scanner_.scanned_end(); }
  std::uint16_t page_magic() const { return scanner_.page_magic(); }
  bool no_space() const { return no_space_; }
  // How long writes take lately; long while none has ended.
  Duration write_time() const { return write_time_; }
  Instant retry_at() const { return no_space_ ? retry_at_ : kNever; }

 private:
  struct Write {
    bool busy = false;
    bool done = false;
    LsnRange range{};  // Of received bytes.
    Instant begun{};
  };
  std::size_t under_way() const;
  bool touches(Lsn begin, Lsn end) const;
  std::span<std::byte> memory(LsnRange range) const {
    return ring_.subspan(range.begin.value & (ring_.size() - 1), range.size().value);
  }
  void look_ahead(LsnRange received);
  Lsn writable_end() const;
  bool unchecked_before(Lsn page) const;
  WriteOp start(LsnRange range, Instant now);
  void advance();
  void keep_last_block();

  wal::SegmentLayout layout_;
  std::span<std::byte> ring_;
  std::uint32_t first_operation_;
  wal::Scanner::Start start_;  // How the scan goes on where no record was seen yet.
  wal::Scanner scanner_;
  wal::Scanner ahead_;  // Of what is received, until it knows where the first record begins.
  Lsn received_end_, synced_end_, durable_end_;
  Lsn submitted_end_;
  std::array<Write, kWritesMax> writes_{};
  // What a write that ends inside a block writes. Used by one write at a time: whatever comes behind its last block
  // waits for that block.
  alignas(kBlock) std::array<std::byte, kTailBytesMax> tail_{};
  // What the block with durable_end holds below it. While a record goes on for long, later bytes take its place in the
  // ring; a session that begins anew at durable_end writes that block again.
  std::array<std::byte, kBlock> last_block_{};
  bool no_space_ = false;
  Instant retry_at_{};
  Duration write_time_ = seconds(1);
};

}  // namespace slipstream::node
