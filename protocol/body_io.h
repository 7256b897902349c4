#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "protocol/frame.h"

namespace slipstream::protocol {

template <class T>
concept Number = std::unsigned_integral<T> && !std::same_as<T, bool>;

// Writes the fields of a body of our own making. Has the same methods as BodyReader, so that one list of fields serves
// both ways.
class BodyWriter {
 public:
  explicit BodyWriter(std::span<std::byte> out) : out_(out) {}

  template <class... T>
  void values(const T&... fields) {
    (value(fields), ...);
  }
  void value(const Number auto& v) { out_.le(v); }
  void value(const bool& v) { out_.le(static_cast<std::uint8_t>(v)); }
  void value(const Lsn& v) { out_.le(v.value); }
  void value(const ByteCount& v) { out_.le(v.value); }
  void value(const NodeId& v) { out_.le(v.value); }
  void value(const TimelineId& v) { out_.le(v.value); }
  void value(const LsnRange& v) { values(v.begin, v.end); }
  void value(const Epoch& v) { values(v.term, v.incarnation); }
  void value(const Random128& v) { values(v.high, v.low); }
  void value(const Digest128& v) { values(v.high, v.low); }
  void value(const seal::Secret& v) { out_.bytes(v.bytes()); }
  void value(const RefuseReason& v) { out_.le(static_cast<std::uint8_t>(v)); }
  template <std::size_t kBytes>
  void value(const std::array<std::byte, kBytes>& v) {
    out_.bytes(v);
  }

  void text(const std::string& v, std::size_t bytes_max) {
    CHECK(v.size() <= bytes_max);
    out_.le(static_cast<std::uint16_t>(v.size()));
    out_.text(v);
  }
  void name(const std::string& v) { text(v, kNameBytesMax); }
  // What people read is cut rather than refused, but not within a UTF-8 character.
  void prose(const std::string& v) {
    std::size_t bytes = std::min(v.size(), kTextBytesMax);
    while (bytes > 0 && bytes < v.size() && (static_cast<unsigned char>(v[bytes]) & 0xc0) == 0x80) --bytes;
    text(v.substr(0, bytes), kTextBytesMax);
  }
  void count(const std::size_t& v, std::size_t most) {
    CHECK(v <= most);
    out_.le(static_cast<std::uint16_t>(v));
  }
  void items(const auto& list, std::size_t most) { count(list.size(), most); }

  void extra(std::uint16_t tag, std::uint64_t v) { values(tag, std::uint16_t{8}, v); }
  void extra(std::uint16_t tag, std::span<const LsnRange> ranges) {
    values(tag, static_cast<std::uint16_t>(16 * ranges.size()));
    for (const LsnRange& each : ranges) value(each);
  }
  std::size_t position() const { return out_.position(); }

 private:
  ByteWriter out_;
};

// Reads the fields of a body from outside: whatever is out of its bounds makes verdict() other than kAccepted, and
// reading goes on harmlessly.
class BodyReader {
 public:
  explicit BodyReader(std::span<const std::byte> in) : in_(in) {}

  template <class... T>
  void values(T&... fields) {
    (value(fields), ...);
  }
  template <Number T>
  void value(T& v) {
    v = in_.le<T>();
  }
  void value(bool& v) {
    const auto byte = in_.le<std::uint8_t>();
    v = byte == 1;
    require(byte <= 1, Verdict::kBadField);
  }
  void value(Lsn& v) { value(v.value); }
  void value(ByteCount& v) { value(v.value); }
  void value(NodeId& v) { value(v.value); }
  void value(TimelineId& v) { value(v.value); }
  void value(LsnRange& v) {
    values(v.begin, v.end);
    require(v.begin < v.end, Verdict::kBadRange);
  }
  void value(Epoch& v) { values(v.term, v.incarnation); }
  void value(Random128& v) { values(v.high, v.low); }
  void value(Digest128& v) { values(v.high, v.low); }
  template <std::size_t kBytes>
  void value(std::array<std::byte, kBytes>& v) {
    std::ranges::copy(in_.bytes(kBytes), v.begin());
  }
  void value(seal::Secret& v) { std::ranges::copy(in_.bytes(seal::kKeyBytes), v.bytes().begin()); }
  void value(RefuseReason& v) {
    const auto byte = in_.le<std::uint8_t>();
    v = static_cast<RefuseReason>(byte);
    require(byte >= 1 && byte <= static_cast<std::uint8_t>(RefuseReason::kDirectory), Verdict::kBadField);
  }

  void text(std::string& v, std::size_t bytes_max) {
    const std::size_t bytes = in_.le<std::uint16_t>();
    require(bytes <= bytes_max, Verdict::kBadField);
    v = in_.text(std::min(bytes, bytes_max));
  }
  void name(std::string& v) {
    text(v, kNameBytesMax);
    const bool printable = std::ranges::all_of(v, [](unsigned char c) { return c >= 0x20 && c != 0x7f; });
    require(!v.empty() && printable, Verdict::kBadField);
  }
  void prose(std::string& v) { text(v, kTextBytesMax); }
  void count(std::size_t& v, std::size_t most) {
    v = in_.le<std::uint16_t>();
    require(v <= most, Verdict::kBadField);
    v = std::min(v, most);
  }
  void items(auto& list, std::size_t most) {
    std::size_t size = 0;
    count(size, most);
    list.resize(size);
  }

  void require(bool holds, Verdict otherwise) {
    if (!holds && verdict() == Verdict::kAccepted) verdict_ = otherwise;
  }
  std::size_t remaining() const { return in_.remaining(); }
  std::span<const std::byte> bytes(std::size_t count) { return in_.bytes(count); }
  // The first thing amiss.
  Verdict verdict() const { return verdict_ == Verdict::kAccepted && !in_.ok() ? Verdict::kTruncated : verdict_; }

 private:
  ByteReader in_;
  Verdict verdict_ = Verdict::kAccepted;
};

}  // namespace slipstream::protocol
