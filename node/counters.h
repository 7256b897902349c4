#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "protocol/verdict.h"

namespace slipstream::node {

// How many frames met which verdict.
class VerdictCounters {
 public:
  protocol::Verdict count(protocol::Verdict verdict) {
    ++counts_[static_cast<std::size_t>(verdict)];
    return verdict;
  }
  std::map<std::string, std::uint64_t> view() const {
    std::map<std::string, std::uint64_t> out;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if (counts_[i] > 0) out.emplace(protocol::to_string(static_cast<protocol::Verdict>(i)), counts_[i]);
    return out;
  }

 private:
  std::array<std::uint64_t, protocol::kVerdicts> counts_{};
};

}  // namespace slipstream::node
