#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "ack/policy.h"

// Small worlds of replicas "a", "b", … with numbers 1, 2, …, and every policy over them, written out twice: as text for
// the parser, and as terms built here without it.
namespace slipstream::ack::worlds {

inline std::vector<Member> members(std::size_t count) {
  std::vector<Member> out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back({NodeId{static_cast<std::uint16_t>(i + 1)}, std::string(1, static_cast<char>('a' + i))});
  return out;
}

struct PlainTerm {
  bool any = false;
  std::size_t count = 1;
  std::vector<std::size_t> list;  // Indices of replicas, in order of priority.
};

struct PlainPolicy {
  std::string text;
  std::vector<PlainTerm> terms;
};

inline PlainPolicy single(const PlainTerm& term) {
  std::string names;
  for (const std::size_t i : term.list)
    names += (names.empty() ? "" : ", ") + std::string(1, static_cast<char>('a' + i));
  return {(term.any ? "ANY " : "FIRST ") + std::to_string(term.count) + " (" + names + ")", {term}};
}

// Every ANY n and FIRST n over every ordered, non-empty selection of `replicas` names.
inline std::vector<PlainPolicy> all_single_terms(std::size_t replicas) {
  std::vector<std::vector<std::size_t>> lists{{}};
  for (std::size_t done = 0; done < lists.size(); ++done) {
    for (std::size_t i = 0; i < replicas; ++i) {
      if (std::ranges::count(lists[done], i) != 0) continue;
      auto longer = lists[done];
      longer.push_back(i);
      lists.push_back(longer);
    }
  }
  std::vector<PlainPolicy> out;
  for (const auto& list : lists)
    for (std::size_t count = 1; count <= list.size(); ++count)
      for (const bool any : {false, true}) out.push_back(single({any, count, list}));
  return out;
}

// Every `stride`-th pair of single terms joined by AND; all single terms stand somewhere if the stride is coprime to
// their number.
inline std::vector<PlainPolicy> pairs(const std::vector<PlainPolicy>& singles, std::size_t stride) {
  std::vector<PlainPolicy> out;
  for (std::size_t i = 0; i < singles.size() * singles.size(); i += stride) {
    const PlainPolicy& left = singles[i / singles.size()];
    const PlainPolicy& right = singles[i % singles.size()];
    out.push_back({left.text + " AND " + right.text, {left.terms[0], right.terms[0]}});
  }
  return out;
}

}  // namespace slipstream::ack::worlds
