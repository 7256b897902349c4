#include "postgres/feed_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace slipstream::postgres {
namespace {

using Result = std::expected<FeedCommand, FeedError>;

constexpr std::size_t kNameBytesMax = 63;

struct Token {
  enum class Kind : std::uint8_t { kWord, kQuotedName, kString, kPunctuation, kEnd } kind = Kind::kEnd;
  std::string text;
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool is_word(char c) {
  const char l = lower(c);
  return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '/' || c == '.' || c == '$';
}

FeedError syntax_error(std::string_view near) {
  return {"42601", near.empty()
                       ? "syntax error at the end of a replication command"
                       : fmt::format("syntax error in a replication command at or near \"{}\"", near.substr(0, 64))};
}

// Consumes a text in single or double quotes, a doubled quote standing for one.
std::optional<std::string> take_quoted(std::string_view& rest) {
  const char quote = rest.front();
  std::string out;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] != quote) {
      out += rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == quote) {
      out += rest[i++];
    } else {
      rest.remove_prefix(i + 1);
      return out;
    }
  }
  return std::nullopt;
}

std::expected<std::vector<Token>, FeedError> tokens_of(std::string_view rest) {
  std::vector<Token> out;
  while (true) {
    while (!rest.empty() && is_space(rest.front())) rest.remove_prefix(1);
    if (rest.empty()) return out;
    const char c = rest.front();
    if (c == '"' || c == '\'') {
      const std::string_view from = rest;
      auto text = take_quoted(rest);
      if (!text) return std::unexpected(syntax_error(from));
      out.push_back({c == '"' ? Token::Kind::kQuotedName : Token::Kind::kString, std::move(*text)});
    } else if (is_word(c)) {
      const auto end = static_cast<std::size_t>(std::ranges::find_if_not(rest, is_word) - rest.begin());
      out.push_back({Token::Kind::kWord, std::string(rest.substr(0, end))});
      rest.remove_prefix(end);
    } else {
      out.push_back({Token::Kind::kPunctuation, std::string(1, c)});
      rest.remove_prefix(1);
    }
  }
}

// Takes a command's tokens from left to right; take_* that do not find what they look for take nothing.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
    while (!tokens_.empty() && tokens_.back().kind == Token::Kind::kPunctuation && tokens_.back().text == ";")
      tokens_.pop_back();
  }

  const Token& peek() const {
    static const Token kNothing;
    return at_ < tokens_.size() ? tokens_[at_] : kNothing;
  }
  bool at_end() const { return at_ >= tokens_.size(); }
  bool take_keyword(std::string_view keyword) {
    return take(peek().kind == Token::Kind::kWord && lowered(peek().text) == lowered(keyword));
  }
  bool take_punctuation(char c) { return take(peek().kind == Token::Kind::kPunctuation && peek().text[0] == c); }
  std::optional<std::string> take_name() {
    const Token token = peek();
    if (token.kind != Token::Kind::kWord && token.kind != Token::Kind::kQuotedName) return std::nullopt;
    ++at_;
    return token.kind == Token::Kind::kWord ? lowered(token.text) : token.text;
  }
  std::optional<std::uint32_t> take_number() {
    const std::string& text = peek().text;
    std::uint32_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (peek().kind != Token::Kind::kWord || problem != std::errc{} || end != text.data() + text.size())
      return std::nullopt;
    ++at_;
    return value;
  }
  std::optional<Lsn> take_position() {
    if (peek().kind != Token::Kind::kWord) return std::nullopt;
    const auto position = parse_lsn(peek().text);
    if (position) ++at_;
    return position;
  }
  // A value of an option, whatever it is.
  void take_value() { (void)take(!at_end() && peek().kind != Token::Kind::kPunctuation); }

  std::unexpected<FeedError> wrong() const { return std::unexpected(syntax_error(peek().text)); }
  Result done(FeedCommand command) const { return at_end() ? Result(std::move(command)) : wrong(); }

 private:
  bool take(bool there) {
    if (there) ++at_;
    return there;
  }
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

std::unexpected<FeedError> logical_refused() {
  return std::unexpected(FeedError{"0A000", "a replica's feed streams physical WAL only", "",
                                   "connect to the primary for logical replication"});
}

std::unexpected<FeedError> invalid_timeline() { return std::unexpected(FeedError{"42601", "invalid timeline 0"}); }

std::optional<FeedError> slot_name_problem(const std::string& name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty()) return FeedError{"42602", "replication slot name \"\" is too short"};
  if (name.size() > kNameBytesMax)
    return FeedError{"42602", fmt::format("replication slot name \"{}\" is too long", name.substr(0, kNameBytesMax))};
  if (!std::ranges::all_of(name, allowed))
    return FeedError{
        "42602", fmt::format("replication slot name \"{}\" contains invalid character", name), "",
        "Replication slot names may only contain lower case letters, numbers, and the underscore character."};
  return std::nullopt;
}

// [RESERVE_WAL], or from version 15 ( option [value] [, ...] ): no option means anything for a slot that keeps nothing.
bool take_slot_options(Parser& in) {
  if (!in.take_punctuation('(')) {
    while (in.take_keyword("RESERVE_WAL")) {
    }
    return in.at_end();
  }
  do {
    if (!in.take_name()) return false;
    in.take_value();
  } while (in.take_punctuation(','));
  return in.take_punctuation(')') && in.at_end();
}

Result parse_create_slot(Parser& in) {
  const auto name = in.take_name();
  if (!name) return in.wrong();
  const bool temporary = in.take_keyword("TEMPORARY");
  if (in.take_keyword("LOGICAL")) return logical_refused();
  if (!in.take_keyword("PHYSICAL") || !take_slot_options(in)) return in.wrong();
  if (auto problem = slot_name_problem(*name)) return std::unexpected(std::move(*problem));
  return CreateSlot{*name, temporary};
}

Result parse_start(Parser& in) {
  StartStreaming out;
  if (in.take_keyword("SLOT")) {
    const auto slot = in.take_name();
    if (!slot) return in.wrong();
    out.slot = *slot;
  }
  if (in.take_keyword("LOGICAL")) return logical_refused();
  (void)in.take_keyword("PHYSICAL");
  const auto start = in.take_position();
  if (!start) return in.wrong();
  out.start = *start;
  if (in.take_keyword("TIMELINE")) {
    const auto timeline = in.take_number();
    if (!timeline) return in.wrong();
    if (*timeline == 0) return invalid_timeline();
    out.timeline = TimelineId{*timeline};
  }
  return in.done(out);
}

// What libpq and its programs ask by themselves; there is no SQL beyond.
Result parse_sql(Parser& in, bool select) {
  const auto function = select ? in.take_name() : std::nullopt;
  const std::string name = !function ? "" : function->starts_with("pg_catalog.") ? function->substr(11) : *function;
  if (name == "set_config" || name == "pg_is_in_recovery") return AskConstant{name, name == "set_config" ? "" : "f"};
  return std::unexpected(FeedError{
      "0A000", "cannot execute SQL commands on a replica's feed", "",
      "The feed speaks PostgreSQL's physical replication protocol only; connect to the standby itself for SQL."});
}

Result parse_named(Parser& in, std::string_view verb) {
  const auto name = in.take_name();
  if (!name) return in.wrong();
  if (verb == "show") return in.done(Show{*name});
  if (verb == "read_replication_slot") return in.done(ReadSlot{*name});
  (void)in.take_keyword("WAIT");
  return in.done(DropSlot{*name});
}

}  // namespace

Result parse_feed_command(std::string_view text) {
  auto tokens = tokens_of(text);
  if (!tokens) return std::unexpected(tokens.error());
  Parser in(std::move(*tokens));
  if (in.at_end()) return NoCommand{};
  const std::string verb = in.peek().kind == Token::Kind::kWord ? lowered(in.peek().text) : "";
  (void)in.take_keyword(verb);
  if (verb == "identify_system") return in.done(IdentifySystem{});
  if (verb == "show" || verb == "read_replication_slot" || verb == "drop_replication_slot")
    return parse_named(in, verb);
  if (verb == "create_replication_slot") return parse_create_slot(in);
  if (verb == "start_replication") return parse_start(in);
  if (verb == "base_backup") return TakeBackup{};
  if (verb == "timeline_history") {
    const auto timeline = in.take_number();
    if (!timeline) return in.wrong();
    if (*timeline == 0) return invalid_timeline();
    return in.done(FetchHistory{TimelineId{*timeline}});
  }
  return parse_sql(in, verb == "select");
}

}  // namespace slipstream::postgres
