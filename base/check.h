#pragma once

namespace slipstream {

// Prints the failed condition with its place and ends the process. A failed CHECK is our own mistake, never bad input.
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace slipstream

// Always on, in release builds too: going on with broken state could lose acknowledged commits.
#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) [[unlikely]]                                \
      ::slipstream::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
