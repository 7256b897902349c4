#include "postgres/feed_startup.h"

#include <fmt/format.h>

#include <string_view>

#include "base/bytes.h"

namespace slipstream::postgres {
namespace {

constexpr std::uint32_t kCancelRequest = 80877102, kSslRequest = 80877103, kGssRequest = 80877104;
constexpr std::size_t kNameBytesMax = 63;  // NAMEDATALEN - 1.

// As PostgreSQL cleans an application_name: printable ASCII, and no longer than a name.
std::string clean_name(std::string_view text) {
  std::string out(text.substr(0, kNameBytesMax));
  for (char& c : out)
    if (c < 32 || c > 126) c = '?';
  return out;
}

bool take_terminated(std::string_view& rest, std::string_view& out) {
  const auto end = rest.find('\0');
  if (end == std::string_view::npos) return false;
  out = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return true;
}

}  // namespace

std::expected<FeedStartup, FeedError> parse_startup(std::span<const std::byte> packet) {
  ByteReader in(packet);
  const auto length = in.be<std::uint32_t>(), code = in.be<std::uint32_t>();
  if (!in.ok() || length != packet.size())
    return std::unexpected(FeedError{"08P01", "invalid length of startup packet"});
  FeedStartup out;
  if (code == kSslRequest || code == kGssRequest) return out.kind = FeedStartup::Kind::kEncryption, out;
  if (code == kCancelRequest) return out.kind = FeedStartup::Kind::kCancel, out;
  if (code >> 16 != 3)
    return std::unexpected(FeedError{
        "0A000",
        fmt::format("unsupported frontend protocol {}.{}: server supports 3.0 to 3.0", code >> 16, code & 0xffff)});
  out.minor = code & 0xffff;
  const FeedError layout{"08P01", "invalid startup packet layout: expected terminator as last byte"};
  std::string_view rest = in.text(in.remaining());
  while (true) {
    std::string_view name, value;
    if (!take_terminated(rest, name)) return std::unexpected(layout);
    if (name.empty()) break;
    if (!take_terminated(rest, value)) return std::unexpected(layout);
    if (name == "user") out.user = value;
    if (name == "application_name") out.application_name = clean_name(value);
    if (name == "replication") out.replication = value;
    if (name.starts_with("_pq_.")) out.unknown_options.emplace_back(name);
  }
  if (!rest.empty()) return std::unexpected(layout);
  return out;
}

}  // namespace slipstream::postgres
