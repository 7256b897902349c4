#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/lsn.h"

// The messages of PostgreSQL's streaming replication protocol (its documentation, "Streaming Replication Protocol"): pure, big-endian, microseconds since 2000-01-01.
namespace slipstream::postgres {

// ---- Inside CopyData

struct XLogData {  // 'w'
  Lsn start;
  Lsn wal_end;  // The sender's flushed position.
  std::int64_t time_us = 0;
  std::span<const std::byte> payload;
};
struct Keepalive {  // 'k'
  Lsn wal_end;
  std::int64_t time_us = 0;
  bool reply_requested = false;
};
struct StandbyStatus {  // 'r'
  Lsn write, flush, apply;
  std::int64_t time_us = 0;
  bool reply_requested = false;
};
struct HotStandbyFeedback {  // 'h'
  std::int64_t time_us = 0;
  std::uint32_t xmin = 0, xmin_epoch = 0, catalog_xmin = 0, catalog_xmin_epoch = 0;
};

std::optional<XLogData> decode_xlog_data(std::span<const std::byte> message);
std::optional<Keepalive> decode_keepalive(std::span<const std::byte> message);
std::optional<StandbyStatus> decode_standby_status(std::span<const std::byte> message);
std::optional<HotStandbyFeedback> decode_feedback(std::span<const std::byte> message);
std::vector<std::byte> encode(const StandbyStatus& status);

std::int64_t now_us();  // Wall clock in the protocol's terms, for fields that only people read.

// ---- The server's side of the message flow

// Builds backend messages one behind the other.
class Messages {
 public:
  void authentication_ok();
  void parameter(std::string_view name, std::string_view value);
  void key_data(std::uint32_t pid, std::uint32_t key);
  void ready();
  void negotiate(std::uint32_t minor);
  struct Column {
    std::string_view name;
    std::uint32_t type = 25;  // text
  };
  void row_description(std::span<const Column> columns);
  void data_row(std::span<const std::optional<std::string>> values);
  void complete(std::string_view tag);
  void error(std::string_view severity, std::string_view code, std::string_view message, std::string_view detail = "", std::string_view hint = "");
  void copy_both();
  void copy_done();
  void empty_query();
  // 'w' and 'k' within CopyData.
  void xlog_data(Lsn start, Lsn wal_end, std::span<const std::byte> payload);
  void keepalive(Lsn wal_end, bool reply_requested);

  std::vector<std::byte>& bytes() { return bytes_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  template <class Body>
  void message(char tag, Body body);
  void u8(std::uint8_t v) { bytes_.push_back(static_cast<std::byte>(v)); }
  void u16(std::uint16_t v);
  void u32(std::uint32_t v);
  void u64(std::uint64_t v);
  void raw(std::string_view v);
  void text(std::string_view v) { raw(v), u8(0); }

  std::vector<std::byte> bytes_;
};

// ---- Replication commands (repl_gram.y), as an unmodified walreceiver and pg_receivewal send them

struct ReplicationCommand {
  enum class Kind : std::uint8_t { kIdentifySystem, kShow, kTimelineHistory, kCreateSlot, kReadSlot, kDropSlot, kStart, kBaseBackup, kSetConfig, kOther } kind = Kind::kOther;
  std::string name;          // Of a setting or a slot.
  std::uint32_t timeline = 0;
  Lsn start{};
  bool logical = false;
};
ReplicationCommand parse_command(std::string_view text);

}  // namespace slipstream::postgres
