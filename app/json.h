#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace slipstream::app {

using Json = nlohmann::ordered_json;

// A count from outside, which may be negative, a fraction, too great, or no number. Throws std::invalid_argument.
template <std::unsigned_integral T>
T whole(const Json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<T>::max())
    throw std::invalid_argument("not a whole number from 0 to " + std::to_string(std::numeric_limits<T>::max()) + ": " +
                                value.dump());
  return value.get<T>();
}

}  // namespace slipstream::app
