#include "dataplane/ipv4.h"

#include <arpa/inet.h>

#include <charconv>

namespace slipstream::dataplane {

std::optional<std::uint32_t> parse_ipv4(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

std::optional<Ipv4Prefix> parse_ipv4_prefix(const std::string& text) {
  const auto slash = text.find('/');
  const auto address = parse_ipv4(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == std::string::npos) return Ipv4Prefix{*address, 0};
  unsigned bits = 0;
  const char *const begin = text.data() + slash + 1, *const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(begin, end, bits);
  if (problem != std::errc{} || stop != end || bits == 0 || bits > 32) return std::nullopt;
  return Ipv4Prefix{*address, bits};
}

}  // namespace slipstream::dataplane
