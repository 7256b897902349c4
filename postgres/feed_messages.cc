#include "postgres/feed_messages.h"

#include "base/bytes.h"
#include "base/check.h"

namespace slipstream::postgres {
namespace {

constexpr std::uint32_t kProtocol30 = 3u << 16;

std::uint16_t type_bytes(BackendMessages::Type type) {
  if (type == BackendMessages::Type::kInt8) return 8;
  return type == BackendMessages::Type::kInt4 ? 4 : 0xffff;
}

}  // namespace

void BackendMessages::u16(std::uint16_t value) {
  u8(static_cast<std::uint8_t>(value >> 8));
  u8(static_cast<std::uint8_t>(value));
}

void BackendMessages::u32(std::uint32_t value) {
  u16(static_cast<std::uint16_t>(value >> 16));
  u16(static_cast<std::uint16_t>(value));
}

void BackendMessages::u64(std::uint64_t value) {
  u32(static_cast<std::uint32_t>(value >> 32));
  u32(static_cast<std::uint32_t>(value));
}

void BackendMessages::text(std::string_view value) {
  const auto bytes = std::as_bytes(std::span(value.data(), value.size()));
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void BackendMessages::terminated(std::string_view value) {
  text(value.substr(0, value.find('\0')));
  u8(0);
}

template <class Body>
void BackendMessages::message(char tag, Body body) {
  u8(static_cast<std::uint8_t>(tag));
  const std::size_t at = bytes_.size();
  u32(0);
  body();
  ByteWriter(std::span(bytes_).subspan(at, 4)).be(static_cast<std::uint32_t>(bytes_.size() - at));
}

void BackendMessages::refuse_encryption() { u8('N'); }

void BackendMessages::negotiate_version(std::span<const std::string> unknown_options) {
  // The documentation says "newest minor version"; servers send, and clients check, the whole number.
  message('v', [&] {
    u32(kProtocol30);
    u32(static_cast<std::uint32_t>(unknown_options.size()));
    for (const std::string& option : unknown_options) terminated(option);
  });
}

void BackendMessages::authentication_ok() {
  message('R', [&] { u32(0); });
}

void BackendMessages::parameter_status(std::string_view name, std::string_view value) {
  message('S', [&] {
    terminated(name);
    terminated(value);
  });
}

void BackendMessages::backend_key_data(std::uint32_t pid, std::uint32_t key) {
  message('K', [&] {
    u32(pid);
    u32(key);
  });
}

void BackendMessages::ready_for_query() {
  message('Z', [&] { u8('I'); });
}

void BackendMessages::row_description(std::span<const Column> columns) {
  message('T', [&] {
    u16(static_cast<std::uint16_t>(columns.size()));
    for (const Column& column : columns) {
      terminated(column.name);
      u32(0);  // No table,
      u16(0);  // so no column of one.
      u32(static_cast<std::uint32_t>(column.type));
      u16(type_bytes(column.type));
      u32(0xffffffff);
      u16(0);  // Text format.
    }
  });
}

void BackendMessages::data_row(std::span<const Value> values) {
  message('D', [&] {
    u16(static_cast<std::uint16_t>(values.size()));
    for (const Value& value : values) {
      u32(value ? static_cast<std::uint32_t>(value->size()) : 0xffffffff);
      if (value) text(*value);
    }
  });
}

void BackendMessages::command_complete(std::string_view tag) {
  message('C', [&] { terminated(tag); });
}

void BackendMessages::empty_query_response() {
  message('I', [] {});
}

void BackendMessages::error(Severity severity, const FeedError& error) {
  const std::string_view name = severity == Severity::kFatal ? "FATAL" : "ERROR";
  const auto field = [&](char tag, std::string_view value) {
    if (value.empty()) return;
    u8(static_cast<std::uint8_t>(tag));
    terminated(value);
  };
  message('E', [&] {
    field('S', name);
    field('V', name);
    field('C', error.code);
    field('M', error.message);
    field('D', error.detail);
    field('H', error.hint);
    u8(0);
  });
}

void BackendMessages::copy_both_response() {
  message('W', [&] {
    u8(0);
    u16(0);
  });
}

void BackendMessages::copy_done() {
  message('c', [] {});
}

void BackendMessages::keepalive(Lsn wal_end, std::int64_t time_us, bool reply_requested) {
  message('d', [&] {
    u8('k');
    u64(wal_end.value);
    u64(static_cast<std::uint64_t>(time_us));
    u8(reply_requested ? 1 : 0);
  });
}

std::span<std::byte> BackendMessages::xlog_data(Lsn start, Lsn wal_end, std::int64_t time_us,
                                                std::size_t payload_bytes) {
  message('d', [&] {
    u8('w');
    u64(start.value);
    u64(wal_end.value);
    u64(static_cast<std::uint64_t>(time_us));
    bytes_.resize(bytes_.size() + payload_bytes);
  });
  return std::span(bytes_).last(payload_bytes);
}

void BackendMessages::take(std::size_t count) {
  CHECK(count <= bytes_.size() - taken_);
  taken_ += count;
  if (taken_ == bytes_.size()) {
    bytes_.clear();
    taken_ = 0;
  } else if (taken_ > bytes_.size() / 2) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
}

void BackendMessages::truncate(std::size_t pending_bytes) {
  CHECK(taken_ + pending_bytes <= bytes_.size());
  bytes_.resize(taken_ + pending_bytes);
}

}  // namespace slipstream::postgres
