#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ack/level.h"
#include "base/error.h"
#include "base/ids.h"

namespace slipstream::ack {

struct Member {
  NodeId id;
  std::string name;
};

// A commit policy: terms of PostgreSQL's synchronous_standby_names grammar, joined by AND. A position is committed when
// every term is met. The empty text is the empty policy: nothing is waited for (asynchronous).
//
//   policy := term { AND term }
//   term   := FIRST n ( list ) | ANY n ( list ) | n ( list ) | list     n ( list ) is FIRST n, a bare list is FIRST 1
//   list   := name { , name }                                          * stands for every member not named before it
//
// Keywords ignore case and are reserved unless quoted. An unquoted name is folded to lower case, a quoted one kept (""
// inside is one quote). A name means the member spelt exactly so; failing that, as in PostgreSQL, the only one that
// differs by case alone. Immutable; any thread may read it. Source: PostgreSQL's syncrep_gram.y and syncrep.c.
class Policy {
 public:
  enum class Method : std::uint8_t { kFirst, kAny };
  struct Term {
    Method method = Method::kFirst;
    std::uint32_t count = 1;      // 1 <= count <= members.size().
    std::vector<NodeId> members;  // In order of priority, none twice.
    bool wildcard = false;        // Written with `*`, here expanded to the members, in their order.
    bool operator==(const Term&) const = default;
  };

  // Errors name the column, and the nearest known name for an unknown replica. Refused: count 0 or above the number of
  // members, a name twice in a term, more than kReplicasMax members.
  static std::expected<Policy, Error> parse(std::string_view text, std::span<const Member> members);

  const std::string& text() const { return text_; }
  const std::vector<Term>& terms() const { return terms_; }
  bool mentions(NodeId id) const;
  bool empty() const { return terms_.empty(); }
  bool operator==(const Policy&) const = default;

 private:
  std::string text_;
  std::vector<Term> terms_;
};

}  // namespace slipstream::ack
