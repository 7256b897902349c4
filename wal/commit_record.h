#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace slipstream::wal {

// Whether the commit that a record's bytes tell of is waited for until it was applied (synchronous_commit =
// remote_apply): PostgreSQL marks such commits so that standbys report them at once. A hint for latency, not for
// safety: to be asked also of bytes whose CRC was not checked yet. Format: xlogrecord.h (XLogRecordAssemble's order:
// origin, top-level transaction, main data), xact.h (xl_xact_commit, xl_xact_xinfo); 13 to 18.
class CommitRecord {
 public:
  static constexpr std::size_t kHeadBytes = 28;  // The flags lie within, behind the record's header.

  void begin(std::uint8_t resource, std::uint8_t info);
  void on_body(std::span<const std::byte> bytes);  // The body's bytes in order, cut anywhere.
  bool awaits_apply() const;

 private:
  bool has_flags_ = false;  // It is a commit's record, and carries flags.
  std::size_t held_ = 0;
  std::array<std::byte, kHeadBytes> head_{};
};

}  // namespace slipstream::wal
