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

// A commit policy: PostgreSQL's synchronous_standby_names grammar (FIRST n (…), n (…), ANY n (…), a plain list = FIRST 1, `*`, double-quoted
// names, case-insensitive keywords and names as PostgreSQL folds them) and `AND` between terms: a position is
// committed when every term is met. The empty text is the empty policy: nothing is waited for (asynchronous).
class Policy {
 public:
  enum class Method : std::uint8_t { kFirst, kAny };
  struct Term {
    Method method = Method::kFirst;
    std::uint32_t count = 1;
    std::vector<NodeId> members;  // In order of priority. `*` is expanded to all members, in their order.
    bool wildcard = false;
  };

  // Errors name the column, and the nearest known name for an unknown replica. Refused: count 0 or above the number of members,
  // a name twice in a term.
  static std::expected<Policy, Error> parse(std::string_view text, std::span<const Member> members);

  const std::string& text() const { return text_; }
  const std::vector<Term>& terms() const { return terms_; }
  bool mentions(NodeId id) const;
  bool empty() const { return terms_.empty(); }

 private:
  std::string text_;
  std::vector<Term> terms_;
};

}  // namespace slipstream::ack
