#include "postgres/sync_names.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ack/policy_lexer.h"

namespace slipstream::postgres {
namespace {

using ack::Token;
using Kind = ack::Token::Kind;

struct SyncNames {
  std::uint32_t count = 1;
  std::set<std::string> names;  // Folded: once is as good as twice.
  bool everybody = false;
};

std::string folded(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), ack::fold_case);
  return out;
}

bool is_keyword(const Token& token) {
  return token.kind == Kind::kName && (token.text == "first" || token.text == "any");
}
bool is_name(const Token& token) {
  return token.kind == Kind::kQuoted || token.kind == Kind::kNumber ||
         (token.kind == Kind::kName && !is_keyword(token));
}
// PostgreSQL makes no difference between * and "*".
bool is_star(const Token& token) {
  return token.kind == Kind::kStar || (token.kind == Kind::kQuoted && token.text == "*");
}

// [[FIRST | ANY] n] ( list ), or a bare list, which is FIRST 1.
std::optional<SyncNames> parse(std::string_view text) {
  const auto tokens = ack::tokenize_policy(text);
  if (!tokens) return std::nullopt;
  auto at = tokens->begin();
  SyncNames out;
  const bool keyword = is_keyword(*at);
  if (keyword) ++at;
  const bool counted = keyword || (at->kind == Kind::kNumber && at[1].kind == Kind::kOpen);
  if (counted) {
    const std::string& digits = at->text;
    if (at->kind != Kind::kNumber ||
        std::from_chars(digits.data(), digits.data() + digits.size(), out.count).ec != std::errc{})
      return std::nullopt;
    if ((++at)->kind != Kind::kOpen) return std::nullopt;
    ++at;
  }
  while (true) {
    if (is_star(*at))
      out.everybody = true;
    else if (is_name(*at))
      out.names.insert(folded(at->text));
    else
      return std::nullopt;
    if ((++at)->kind != Kind::kComma) break;
    ++at;
  }
  if (counted && (at++)->kind != Kind::kClose) return std::nullopt;
  return at->kind == Kind::kEnd ? std::optional(out) : std::nullopt;
}

}  // namespace

bool names_always_contain(std::string_view synchronous_standby_names, std::string_view application_name) {
  const auto wanted = parse(synchronous_standby_names);
  if (!wanted || wanted->everybody || !wanted->names.contains(folded(application_name))) return false;
  return wanted->names.size() - 1 < wanted->count;
}

}  // namespace slipstream::postgres
