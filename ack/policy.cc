#include "ack/policy.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "ack/policy_lexer.h"
#include "base/nearest.h"

namespace slipstream::ack {
namespace {

using Kind = Token::Kind;
using Method = Policy::Method;

constexpr const char* kExample = "write for example  ANY 1 (a, b)  or  FIRST 2 (a, b, c)";

bool is_word(const Token& token, std::string_view word) { return token.kind == Kind::kName && token.text == word; }
bool is_reserved(const Token& token) {
  return is_word(token, "first") || is_word(token, "any") || is_word(token, "and");
}
bool is_name(const Token& token) {
  return (token.kind == Kind::kName && !is_reserved(token)) || token.kind == Kind::kQuoted ||
         token.kind == Kind::kNumber;
}
// PostgreSQL's scanner makes no difference between * and "*".
bool is_star(const Token& token) {
  return token.kind == Kind::kStar || (token.kind == Kind::kQuoted && token.text == "*");
}
bool equal_but_for_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, fold_case, fold_case);
}

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::span<const Member> members) : tokens_(std::move(tokens)), members_(members) {}

  std::expected<std::vector<Policy::Term>, Error> parse() {
    std::vector<Policy::Term> terms;
    while (true) {
      Policy::Term term;
      if (auto problem = parse_term(term)) return std::unexpected(*problem);
      terms.push_back(std::move(term));
      if (peek().kind == Kind::kEnd) return terms;
      if (!is_word(peek(), "and")) return std::unexpected(wanted("\",\", AND or the end"));
      next();
    }
  }

 private:
  using Problem = std::optional<Error>;

  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }

  Error wanted(const std::string& what, const std::string& remedy = kExample) const {
    const Token& token = peek();
    if (token.kind == Kind::kEnd)
      return policy_error(token.column, "the policy ends where " + what + " should follow", remedy);
    return policy_error(token.column, "\"" + token.text + "\" stands where " + what + " should be", remedy);
  }

  Problem parse_term(Policy::Term& term) {
    const bool keyword = is_word(peek(), "first") || is_word(peek(), "any");
    if (keyword) {
      const std::string word = next().text;
      if (word == "any") term.method = Method::kAny;
      if (peek().kind != Kind::kNumber)
        return wanted("the number of replicas after " + upper(word),
                      "a replica of that name must be quoted: \"" + word + "\"");
    }
    const Token start = peek();
    const bool counted = keyword || (start.kind == Kind::kNumber && peek(1).kind == Kind::kOpen);
    if (counted) {
      if (auto problem = parse_count(term)) return problem;
      if (peek().kind != Kind::kOpen) return wanted("\"(\"");
      next();
    }
    if (auto problem = parse_list(term)) return problem;
    if (counted) {
      if (peek().kind != Kind::kClose) return wanted("\",\" or \")\"");
      next();
    }
    if (term.count > term.members.size())
      return too_many(start.column, std::to_string(term.count), term.members.size());
    return std::nullopt;
  }

  Problem parse_count(Policy::Term& term) {
    const Token& number = next();
    const char* const end = number.text.data() + number.text.size();
    if (std::from_chars(number.text.data(), end, term.count).ec != std::errc{})
      return too_many(number.column, number.text, members_.size());
    if (term.count == 0)
      return policy_error(number.column, "the number of replicas must be at least 1",
                          "for an asynchronous policy write \"\"");
    return std::nullopt;
  }

  static Error too_many(std::size_t column, const std::string& count, std::size_t members) {
    return policy_error(column, count + " replicas are wanted of " + std::to_string(members),
                        "lower the number or name more replicas");
  }

  Problem parse_list(Policy::Term& term) {
    while (true) {
      const Token& token = peek();
      if (is_star(token)) {
        if (auto problem = add_everyone(term, token)) return problem;
      } else if (is_name(token)) {
        if (auto problem = add_member(term, token)) return problem;
      } else if (is_reserved(token)) {
        return wanted("a replica's name", "a replica of that name must be quoted: \"" + token.text + "\"");
      } else {
        return wanted("a replica's name");
      }
      next();
      if (peek().kind != Kind::kComma) return std::nullopt;
      next();
    }
  }

  Problem add_everyone(Policy::Term& term, const Token& star) const {
    if (term.wildcard) return policy_error(star.column, "* stands twice in one list", "remove one of them");
    term.wildcard = true;
    for (const Member& member : members_)
      if (std::ranges::count(term.members, member.id) == 0) term.members.push_back(member.id);
    return std::nullopt;
  }

  Problem add_member(Policy::Term& term, const Token& token) const {
    const auto exact = std::ranges::find(members_, token.text, &Member::name);
    const auto like = [&](const Member& member) { return equal_but_for_case(member.name, token.text); };
    const Member* found = exact != members_.end() ? &*exact : nullptr;
    if (!found && std::ranges::count_if(members_, like) > 1)
      return policy_error(token.column, "\"" + token.text + "\" could mean several replicas that differ by case alone",
                          "quote the name as it is spelt");
    if (const auto it = std::ranges::find_if(members_, like); !found && it != members_.end()) found = &*it;
    if (!found) return unknown(token);
    if (std::ranges::count(term.members, found->id) != 0)
      return policy_error(
          token.column, "replica \"" + found->name + "\" is named twice in one list",
          term.wildcard ? "* already stands for every replica: name it before the *" : "remove one of them");
    term.members.push_back(found->id);
    return std::nullopt;
  }

  Error unknown(const Token& token) const {
    std::vector<std::string> names;
    std::string known;
    for (const Member& member : members_) {
      names.push_back(member.name);
      known += (known.empty() ? "" : ", ") + member.name;
    }
    const auto near = nearest(token.text, names);
    return policy_error(token.column, "unknown replica \"" + token.text + "\"",
                        near            ? "did you mean \"" + *near + "\"?"
                        : known.empty() ? "no replica is configured"
                                        : "the replicas are: " + known);
  }

  std::vector<Token> tokens_;
  std::span<const Member> members_;
  std::size_t at_ = 0;
};

}  // namespace

std::expected<Policy, Error> Policy::parse(std::string_view text, std::span<const Member> members) {
  if (members.size() > kReplicasMax)
    return std::unexpected(policy_error(1, std::to_string(members.size()) + " replicas are more than a policy can have",
                                        "keep to " + std::to_string(kReplicasMax) + " replicas"));
  auto tokens = tokenize_policy(text);
  if (!tokens) return std::unexpected(tokens.error());
  Policy policy;
  policy.text_ = text;
  if (tokens->size() == 1) return policy;
  auto terms = Parser(std::move(*tokens), members).parse();
  if (!terms) return std::unexpected(terms.error());
  policy.terms_ = std::move(*terms);
  return policy;
}

bool Policy::mentions(NodeId id) const {
  return std::ranges::any_of(terms_, [&](const Term& term) { return std::ranges::count(term.members, id) != 0; });
}

}  // namespace slipstream::ack
