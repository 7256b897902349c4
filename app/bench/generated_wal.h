#pragma once

#include <expected>
#include <filesystem>
#include <span>
#include <vector>

#include "base/error.h"
#include "node/io.h"
#include "wal/segment.h"
#include "wal/wal_writer.h"

namespace slipstream::app::bench {

constexpr ByteCount kSegmentSize{16u << 20};
constexpr SystemId kSystem{0x736c697062656e63};  // No PostgreSQL's.
constexpr Lsn kLogBegin{16u << 20};

// Valid WAL in segment files, record by record, as a PostgreSQL writes it but without flushing. Threading: one thread.
class GeneratedWal {
 public:
  explicit GeneratedWal(std::filesystem::path directory);
  ~GeneratedWal();
  GeneratedWal(const GeneratedWal&) = delete;
  GeneratedWal& operator=(const GeneratedWal&) = delete;

  // Writes the next record, of `payload_bytes` behind its header, into its segment (or two); returns where it lies,
  // with the headers of the pages that it begins. Errors (kStorage): it could not be written.
  std::expected<LsnRange, Error> write(std::size_t payload_bytes);
  // What PostgreSQL's stream would say of the record that was written last: pieces that cross no multiple of 1 MiB.
  const std::vector<node::UpstreamChunk>& chunks() const { return chunks_; }
  Lsn end() const { return writer_.end(); }
  // Removes the segments wholly before `end`.
  void remove_before(Lsn end);

 private:
  std::expected<void, Error> put(Lsn at, std::span<const std::byte> bytes);
  std::expected<void, Error> open_segment(std::uint64_t number);
  Error failure(const char* what) const;

  std::filesystem::path directory_;
  wal::SegmentLayout layout_{kSegmentSize};
  wal::WalWriter writer_{kLogBegin, kSegmentSize, kSystem};
  std::vector<node::UpstreamChunk> chunks_;
  int fd_ = -1;
  std::uint64_t number_ = 0;  // Of the segment that fd_ is.
};

}  // namespace slipstream::app::bench
