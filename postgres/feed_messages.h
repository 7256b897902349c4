#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/lsn.h"

namespace slipstream::postgres {

// What a client is told went wrong: an SQLSTATE and PostgreSQL's three parts of a message.
struct FeedError {
  std::string code;
  std::string message;
  std::string detail{};
  std::string hint{};
};

// The messages of a PostgreSQL server, built one behind the other into one buffer that a socket empties from the front.
// Source: PostgreSQL's documentation, "Message Formats" and "Streaming Replication Protocol". Pure.
class BackendMessages {
 public:
  enum class Type : std::uint32_t { kInt8 = 20, kInt4 = 23, kText = 25 };
  struct Column {
    std::string_view name;
    Type type = Type::kText;
  };
  using Value = std::optional<std::string>;
  enum class Severity : std::uint8_t { kError, kFatal };

  void refuse_encryption();  // The single 'N'.
  void negotiate_version(std::span<const std::string> unknown_options);
  void authentication_ok();
  void parameter_status(std::string_view name, std::string_view value);
  void backend_key_data(std::uint32_t pid, std::uint32_t key);
  void ready_for_query();
  void row_description(std::span<const Column> columns);
  void data_row(std::span<const Value> values);
  void command_complete(std::string_view tag);
  void empty_query_response();
  void error(Severity severity, const FeedError& error);
  void copy_both_response();
  void copy_done();
  void keepalive(Lsn wal_end, std::int64_t time_us, bool reply_requested);
  // The space for the payload, to be filled at once: the next call may move it.
  std::span<std::byte> xlog_data(Lsn start, Lsn wal_end, std::int64_t time_us, std::size_t payload_bytes);

  std::span<const std::byte> pending() const { return std::span(bytes_).subspan(taken_); }
  void take(std::size_t count);              // The first `count` pending bytes have been written.
  void truncate(std::size_t pending_bytes);  // Forgets what was built since pending() had this size.

 private:
  template <class Body>
  void message(char tag, Body body);
  void u8(std::uint8_t value) { bytes_.push_back(static_cast<std::byte>(value)); }
  void u16(std::uint16_t value);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  void text(std::string_view value);
  void terminated(std::string_view value);

  std::vector<std::byte> bytes_;
  std::size_t taken_ = 0;
};

}  // namespace slipstream::postgres
