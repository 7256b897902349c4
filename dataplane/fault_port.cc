#include "dataplane/fault_port.h"

#include <algorithm>
#include <array>

namespace slipstream::dataplane {

// splitmix64 (Steele, Lea, Flood 2014).
std::uint64_t FaultPort::next_random() {
  std::uint64_t z = (random_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

bool FaultPort::happens(double probability) {
  return probability > 0 && static_cast<double>(next_random() >> 11) * 0x1.0p-53 < probability;
}

std::size_t FaultPort::receive(std::span<protocol::Arrival> frames) {
  given_.clear();
  given_.reserve(frames.size());
  ++clock_;
  std::size_t count = 0;
  while (!held_.empty() && held_.front().due <= clock_ && count < frames.size()) {
    given_.push_back(std::move(held_.front().bytes));
    held_.pop_front();
    frames[count++] = protocol::Arrival(given_.back());
  }
  // Half the room is left for duplicates.
  std::array<protocol::Arrival, 64> arrived;
  const std::size_t room = std::min(arrived.size(), (frames.size() - count) / 2);
  const std::size_t got = inner_->receive(std::span(arrived).first(room));
  for (std::size_t i = 0; i < got; ++i) {
    ++clock_;
    if (happens(faults_.loss)) {
      ++counters_.lost;
      continue;
    }
    const auto bytes = arrived[i].bytes();
    const std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (happens(faults_.reorder)) {
      ++counters_.reordered;
      held_.push_back({copy, clock_ + 1 + next_random() % 8});
      continue;
    }
    given_.push_back(copy);
    if (happens(faults_.corrupt) && !copy.empty()) {
      ++counters_.corrupted;
      const std::uint64_t bit = next_random() % (copy.size() * 8);
      given_.back()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    }
    frames[count++] = protocol::Arrival(given_.back());
    if (happens(faults_.duplicate) && count < frames.size()) {
      ++counters_.duplicated;
      given_.push_back(copy);
      frames[count++] = protocol::Arrival(given_.back());
    }
  }
  return count;
}

}  // namespace slipstream::dataplane
