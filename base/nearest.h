#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace slipstream {

// The candidate closest to `word` by Levenshtein distance, if it is close enough to be a likely slip (at most a third
// of its length, at least 2). For messages such as: unknown key "polcy", did you mean "policy"?
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace slipstream
