#include "postgres/wire.h"

#include <sys/time.h>

#include <algorithm>
#include <charconv>

#include "base/bytes.h"

namespace slipstream::postgres {
namespace {

constexpr std::int64_t kEpochUs = 946'684'800'000'000;  // 2000-01-01 in the Unix count.

std::int64_t signed_of(std::uint64_t v) { return static_cast<std::int64_t>(v); }

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

// Words, "quoted names", 'strings' and single characters.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  std::size_t at = 0;
  while (at < text.size() && out.size() < 64) {
    const char c = text[at];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';') {
      ++at;
    } else if (c == '"' || c == '\'') {
      const auto end = text.find(c, at + 1);
      out.emplace_back(text.substr(at + 1, end == std::string_view::npos ? end : end - at - 1));
      at = end == std::string_view::npos ? text.size() : end + 1;
    } else if (c == '(' || c == ')' || c == ',') {
      out.emplace_back(1, c);
      ++at;
    } else {
      const auto end = std::min(text.find_first_of(" \t\n\r;\"'(),", at), text.size());
      out.emplace_back(text.substr(at, end - at));
      at = end;
    }
  }
  return out;
}

}  // namespace

std::optional<XLogData> decode_xlog_data(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'w') return std::nullopt;
  XLogData out;
  out.start.value = in.be<std::uint64_t>(), out.wal_end.value = in.be<std::uint64_t>(), out.time_us = signed_of(in.be<std::uint64_t>());
  out.payload = in.bytes(in.remaining());
  if (!in.ok() || out.start.value > UINT64_MAX - out.payload.size()) return std::nullopt;
  return out;
}

std::optional<Keepalive> decode_keepalive(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'k') return std::nullopt;
  Keepalive out;
  out.wal_end.value = in.be<std::uint64_t>(), out.time_us = signed_of(in.be<std::uint64_t>()), out.reply_requested = in.le<std::uint8_t>() != 0;
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::optional<StandbyStatus> decode_standby_status(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'r') return std::nullopt;
  StandbyStatus out;
  out.write.value = in.be<std::uint64_t>(), out.flush.value = in.be<std::uint64_t>(), out.apply.value = in.be<std::uint64_t>();
  out.time_us = signed_of(in.be<std::uint64_t>()), out.reply_requested = in.le<std::uint8_t>() != 0;
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::optional<HotStandbyFeedback> decode_feedback(std::span<const std::byte> message) {
  ByteReader in(message);
  if (in.le<std::uint8_t>() != 'h') return std::nullopt;
  HotStandbyFeedback out;
  out.time_us = signed_of(in.be<std::uint64_t>()), out.xmin = in.be<std::uint32_t>(), out.xmin_epoch = in.be<std::uint32_t>();
  out.catalog_xmin = in.be<std::uint32_t>(), out.catalog_xmin_epoch = in.be<std::uint32_t>();
  return in.ok() && in.remaining() == 0 ? std::optional(out) : std::nullopt;
}

std::vector<std::byte> encode(const StandbyStatus& status) {
  std::vector<std::byte> out(34);
  ByteWriter writer(out);
  writer.le(static_cast<std::uint8_t>('r'));
  writer.be(status.write.value), writer.be(status.flush.value), writer.be(status.apply.value), writer.be(static_cast<std::uint64_t>(status.time_us));
  writer.le(static_cast<std::uint8_t>(status.reply_requested));
  return out;
}

std::int64_t now_us() {
  timeval now{};
  gettimeofday(&now, nullptr);
  return now.tv_sec * 1'000'000 + now.tv_usec - kEpochUs;
}

void Messages::u16(std::uint16_t v) { u8(static_cast<std::uint8_t>(v >> 8)), u8(static_cast<std::uint8_t>(v)); }
void Messages::u32(std::uint32_t v) { u16(static_cast<std::uint16_t>(v >> 16)), u16(static_cast<std::uint16_t>(v)); }
void Messages::u64(std::uint64_t v) { u32(static_cast<std::uint32_t>(v >> 32)), u32(static_cast<std::uint32_t>(v)); }
void Messages::raw(std::string_view v) {
  for (const char c : v) u8(static_cast<std::uint8_t>(c));
}

template <class Body>
void Messages::message(char tag, Body body) {
  u8(static_cast<std::uint8_t>(tag));
  const std::size_t at = bytes_.size();
  u32(0);
  body();
  ByteWriter(std::span(bytes_).subspan(at, 4)).be(static_cast<std::uint32_t>(bytes_.size() - at));
}

void Messages::authentication_ok() {
  message('R', [&] { u32(0); });
}
void Messages::parameter(std::string_view name, std::string_view value) {
  message('S', [&] { text(name), text(value); });
}
void Messages::key_data(std::uint32_t pid, std::uint32_t key) {
  message('K', [&] { u32(pid), u32(key); });
}
void Messages::ready() {
  message('Z', [&] { u8('I'); });
}
void Messages::negotiate(std::uint32_t minor) {
  message('v', [&] { u32(minor), u32(0); });
}
void Messages::row_description(std::span<const Column> columns) {
  message('T', [&] {
    u16(static_cast<std::uint16_t>(columns.size()));
    for (const Column& column : columns) {
      text(column.name), u32(0), u16(0), u32(column.type);
      u16(static_cast<std::uint16_t>(column.type == 20 ? 8 : column.type == 23 ? 4 : 0xffff)), u32(0xffffffff), u16(0);
    }
  });
}
void Messages::data_row(std::span<const std::optional<std::string>> values) {
  message('D', [&] {
    u16(static_cast<std::uint16_t>(values.size()));
    for (const auto& value : values) {
      u32(value ? static_cast<std::uint32_t>(value->size()) : 0xffffffff);
      if (value) raw(*value);
    }
  });
}
void Messages::complete(std::string_view tag) {
  message('C', [&] { text(tag); });
}
void Messages::error(std::string_view severity, std::string_view code, std::string_view what, std::string_view detail, std::string_view hint) {
  message('E', [&] {
    u8('S'), text(severity), u8('V'), text(severity), u8('C'), text(code), u8('M'), text(what);
    if (!detail.empty()) u8('D'), text(detail);
    if (!hint.empty()) u8('H'), text(hint);
    u8(0);
  });
}
void Messages::copy_both() {
  message('W', [&] { u8(0), u16(0); });
}
void Messages::copy_done() {
  message('c', [] {});
}
void Messages::empty_query() {
  message('I', [] {});
}
void Messages::xlog_data(Lsn start, Lsn wal_end, std::span<const std::byte> payload) {
  message('d', [&] {
    u8('w'), u64(start.value), u64(wal_end.value), u64(static_cast<std::uint64_t>(now_us()));
    bytes_.insert(bytes_.end(), payload.begin(), payload.end());
  });
}
void Messages::keepalive(Lsn wal_end, bool reply_requested) {
  message('d', [&] { u8('k'), u64(wal_end.value), u64(static_cast<std::uint64_t>(now_us())), u8(reply_requested); });
}

ReplicationCommand parse_command(std::string_view query) {
  using Kind = ReplicationCommand::Kind;
  ReplicationCommand out;
  const auto words = words_of(query);
  if (words.empty()) return out;
  const std::string verb = upper(words[0]);
  const auto word = [&](std::size_t i) { return i < words.size() ? words[i] : std::string(); };
  const auto number = [](const std::string& digits) {
    std::uint32_t value = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return problem == std::errc{} && end == digits.data() + digits.size() ? value : 0;
  };
  if (verb == "IDENTIFY_SYSTEM") out.kind = Kind::kIdentifySystem;
  else if (verb == "SHOW") out.kind = Kind::kShow, out.name = word(1);
  else if (verb == "TIMELINE_HISTORY") out.kind = Kind::kTimelineHistory, out.timeline = number(word(1));
  else if (verb == "READ_REPLICATION_SLOT") out.kind = Kind::kReadSlot, out.name = word(1);
  else if (verb == "DROP_REPLICATION_SLOT") out.kind = Kind::kDropSlot, out.name = word(1);
  else if (verb == "BASE_BACKUP") out.kind = Kind::kBaseBackup;
  else if (verb == "SELECT" && query.find("set_config") != std::string_view::npos) out.kind = Kind::kSetConfig;
  else if (verb == "CREATE_REPLICATION_SLOT") {
    out.kind = Kind::kCreateSlot, out.name = word(1);
    for (const std::string& each : words) out.logical = out.logical || upper(each) == "LOGICAL";
  } else if (verb == "START_REPLICATION") {
    std::size_t at = 1;
    if (upper(word(at)) == "SLOT") out.name = word(at + 1), at += 2;
    if (upper(word(at)) == "PHYSICAL") ++at;
    if (upper(word(at)) == "LOGICAL") out.logical = true, ++at;
    const auto start = parse_lsn(word(at));
    if (!start) return out;
    out.kind = Kind::kStart, out.start = *start;
    if (upper(word(at + 1)) == "TIMELINE") out.timeline = number(word(at + 2));
  }
  return out;
}

}  // namespace slipstream::postgres
