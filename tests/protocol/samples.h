#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "protocol/frame.h"

namespace slipstream::protocol {

using Bytes = std::vector<std::byte>;

// One frame of each kind, every field different and as large as it may be somewhere.
struct Sample {
  std::string name;
  FrameHeader header;
  Body body;
};

std::vector<Sample> samples();
Sample sample(const std::string& name);
Bytes encoded(const Sample& sample);

// The frame with other bytes at `at` and a tag that fits again.
Bytes with(Bytes frame, std::size_t at, const Bytes& bytes);
Bytes with_number(Bytes frame, std::size_t at, std::uint64_t value, std::size_t bytes);
// A control frame whose body is `body`, lengths and tag right.
Bytes with_body(Bytes frame, const Bytes& body);
Bytes body_of(const Bytes& frame);
Bytes number(std::uint64_t value, std::size_t bytes);
Bytes joined(const std::vector<Bytes>& parts);

Verdict verdict_of(std::span<const std::byte> frame);

}  // namespace slipstream::protocol
