#include "ack/policy_lexer.h"

#include <cstdio>

namespace slipstream::ack {
namespace {

using Kind = Token::Kind;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c) || c == '$'; }

Kind kind_of_sign(char c) {
  switch (c) {
    case ',':
      return Kind::kComma;
    case '(':
      return Kind::kOpen;
    case ')':
      return Kind::kClose;
    case '*':
      return Kind::kStar;
    default:
      return Kind::kEnd;
  }
}

std::string shown(char c) {
  if (c >= ' ' && c <= '~') return std::string("'") + c + "'";
  char code[8];
  std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
  return code;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::expected<Token, Error> next() {
    while (!done() && is_space(text_[at_])) take();
    Token token{Kind::kEnd, "", column_};
    if (done()) return token;
    const char first = text_[at_];
    if (first == '"') return quoted(std::move(token));
    if (is_digit(first)) {
      token.kind = Kind::kNumber;
      while (!done() && is_digit(text_[at_])) token.text += take();
    } else if (is_name_start(first)) {
      token.kind = Kind::kName;
      while (!done() && is_name_part(text_[at_])) token.text += fold_case(take());
    } else if (token.kind = kind_of_sign(first); token.kind != Kind::kEnd) {
      token.text = take();
    } else {
      return std::unexpected(policy_error(column_, "unexpected character " + shown(first),
                                          "put a name with such characters in double quotes"));
    }
    return token;
  }

 private:
  bool done() const { return at_ == text_.size(); }

  char take() {
    const char c = text_[at_++];
    const bool character_ends = done() || (static_cast<unsigned char>(text_[at_]) & 0xc0) != 0x80;
    if (character_ends) ++column_;
    return c;
  }

  std::expected<Token, Error> quoted(Token token) {
    token.kind = Kind::kQuoted;
    take();
    while (!done()) {
      const char c = take();
      const bool doubled = c == '"' && !done() && text_[at_] == '"';
      if (c == '"' && !doubled) return token;
      if (doubled) take();
      token.text += c;
    }
    return std::unexpected(policy_error(token.column, "a quoted name is not closed", "add the closing double quote"));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t column_ = 1;
};

}  // namespace

Error policy_error(std::size_t column, std::string what, std::string remedy) {
  return {ExitCode::kConfiguration, std::move(what), "column " + std::to_string(column), std::move(remedy)};
}

std::expected<std::vector<Token>, Error> tokenize_policy(std::string_view text) {
  std::vector<Token> tokens;
  Lexer lexer(text);
  do {
    auto token = lexer.next();
    if (!token) return std::unexpected(token.error());
    tokens.push_back(std::move(*token));
  } while (tokens.back().kind != Kind::kEnd);
  return tokens;
}

}  // namespace slipstream::ack
