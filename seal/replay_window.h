#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipstream::seal {

// Which packet numbers were seen, of the newest kSize (RFC 4303, 3.4.3; the bitmap of RFC 6479). At 3 GB/s in frames of
// 1500 bytes they are 30 ms of a stream.
class ReplayWindow {
 public:
  static constexpr std::uint64_t kSize = 65'536;

  // Not seen yet, and not too old to know. Ask before opening the frame, and note the number after: a forged one must
  // not push the window on.
  bool is_new(std::uint64_t number) const {
    return number >= end_ || (end_ - number <= kSize && (word(number) >> (number % 64) & 1) == 0);
  }
  void note(std::uint64_t number) {
    if (number >= end_) {
      const std::uint64_t entered = number / 64 + 1 - std::min((end_ + 63) / 64, number / 64 + 1);  // Words.
      for (std::uint64_t i = 0; i < std::min<std::uint64_t>(entered, words_.size()); ++i)
        words_[(number / 64 - i) % words_.size()] = 0;
      end_ = number + 1;
    }
    words_[number / 64 % words_.size()] |= std::uint64_t{1} << (number % 64);
  }

 private:
  std::uint64_t word(std::uint64_t number) const { return words_[number / 64 % words_.size()]; }

  std::uint64_t end_ = 0;  // Above every number noted.
  // One more than the window, whose ends may lie within words.
  std::vector<std::uint64_t> words_ = std::vector<std::uint64_t>(kSize / 64 + 1);
};

}  // namespace slipstream::seal
