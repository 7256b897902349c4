#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace slipstream::ack {

struct Token {
  enum class Kind : std::uint8_t { kName, kQuoted, kNumber, kComma, kOpen, kClose, kStar, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;        // Folded to lower case unless quoted; quotes taken off.
  std::size_t column = 0;  // In characters of UTF-8, from 1.
};

// The tokens of a synchronous_standby_names text, closed by one kEnd. Source: PostgreSQL's syncrep_scanner.l; our
// addition is the word AND, which is a kName here.
std::expected<std::vector<Token>, Error> tokenize_policy(std::string_view text);

// ASCII only, as pg_strcasecmp in the C locale.
constexpr char fold_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

Error policy_error(std::size_t column, std::string what, std::string remedy = "");

}  // namespace slipstream::ack
