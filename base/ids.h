#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace slipstream {

// The stable number a node has in every configuration file of its cluster. 0 is no node.
struct NodeId {
  std::uint16_t value = 0;
  constexpr auto operator<=>(const NodeId&) const = default;
};

// PostgreSQL's system identifier (pg_control): which cluster's WAL this is.
struct SystemId {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const SystemId&) const = default;
};

// PostgreSQL's timeline.
struct TimelineId {
  std::uint32_t value = 0;
  constexpr auto operator<=>(const TimelineId&) const = default;
};

// 128 random bits. All zero is "none".
struct Random128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  constexpr auto operator<=>(const Random128&) const = default;
  constexpr bool none() const { return high == 0 && low == 0; }
};

// Which log this is: random, made with the replica's directory, lost with it (docs/guarantees.md, log ids).
struct LogId {
  Random128 value;
  constexpr auto operator<=>(const LogId&) const = default;
};

// Who owns a term as primary: random, made with the primary's state directory.
struct Identity {
  Random128 value;
  constexpr auto operator<=>(const Identity&) const = default;
};

// One conversation between the primary and one replica. Rises within an epoch; 0 is none.
struct SessionId {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const SessionId&) const = default;
};

// A stretch of history written by one primary over one replication connection. Only a promotion raises the term;
// a primary raises the incarnation within the term it owns, at each connection to its PostgreSQL.
struct Epoch {
  std::uint32_t term = 0;
  std::uint32_t incarnation = 0;
  constexpr auto operator<=>(const Epoch&) const = default;
};

std::string to_string(Epoch epoch);            // "3.17"
std::string to_string(const Random128& bits);  // 32 hexadecimal digits
std::optional<Random128> parse_random128(std::string_view text);

}  // namespace slipstream
