#pragma once

#include <optional>
#include <span>
#include <vector>

#include "node/io.h"
#include "protocol/frame.h"

namespace slipstream::node {

// Answers one digest request at a time from the replica's own files: aligned 64 KiB blocks, read into memory of the
// driver, digested, replied in order.
class DigestService {
 public:
  DigestService(std::span<std::byte> memory, std::uint32_t first_operation);  // At least one block of memory.

  bool busy() const { return !blocks_.empty(); }
  void start(LsnRange range);  // At most kDigestsMax blocks; ignored while busy.
  void stop();                 // The session is over; reads under way are forgotten when they end.
  std::optional<ReadOp> next_read();
  bool owns(std::uint32_t operation) const { return operation == first_operation_; }
  void on_read(DiskStatus status);
  std::optional<protocol::DigestReply> next_reply();

 private:
  std::span<std::byte> memory_;
  std::uint32_t first_operation_;
  std::vector<protocol::RangeDigest> blocks_;
  std::size_t next_ = 0;
  bool reading_ = false;
  bool forget_ = false;
};

}  // namespace slipstream::node
