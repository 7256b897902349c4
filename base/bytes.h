#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/check.h"

namespace slipstream {

// From the beginning of one to that of the other, which is at least as long; they don't overlap. As std::ranges::copy,
// which g++ 12 makes a loop over single bytes of.
inline void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to) {
  CHECK(from.size() <= to.size());
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

// Reads fixed-width integers from bytes of unknown origin. Running out sets `ok()` to false and yields zeros: decode
// everything, then look at ok() once.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  T le() {
    return read<T>(std::endian::little);
  }
  template <std::unsigned_integral T>
  T be() {
    return read<T>(std::endian::big);
  }

  std::span<const std::byte> bytes(std::size_t count) {
    if (count > remaining()) {
      ok_ = false;
      return {};
    }
    const auto taken = bytes_.subspan(at_, count);
    at_ += count;
    return taken;
  }
  std::string_view text(std::size_t count) {
    const auto taken = bytes(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  std::size_t remaining() const { return bytes_.size() - at_; }
  std::size_t position() const { return at_; }
  bool ok() const { return ok_; }

 private:
  template <class T>
  T read(std::endian order) {
    const auto taken = bytes(sizeof(T));
    if (taken.size() != sizeof(T)) return 0;
    T value;
    std::memcpy(&value, taken.data(), sizeof value);
    return order == std::endian::native ? value : swap(value);
  }
  template <class T>
  static T swap(T value) {
    T out = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      out = static_cast<T>(out << (sizeof(T) > 1 ? 8 : 0)) | static_cast<T>(value & 0xff);
      value = static_cast<T>(value >> (sizeof(T) > 1 ? 8 : 0));
    }
    return out;
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

// Writes fixed-width integers into a buffer that is large enough by construction; too small a buffer is our mistake.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> out) : out_(out) {}

  template <std::unsigned_integral T>
  void le(T value) {
    static_assert(std::endian::native == std::endian::little);
    bytes(std::as_bytes(std::span(&value, 1)));
  }
  template <std::unsigned_integral T>
  void be(T value) {
    for (std::size_t i = sizeof(T); i-- > 0;) put(static_cast<std::byte>(value >> (8 * i)));
  }
  void bytes(std::span<const std::byte> source) {
    CHECK(source.size() <= remaining());
    if (!source.empty()) std::memcpy(out_.data() + at_, source.data(), source.size());
    at_ += source.size();
  }
  void text(std::string_view source) { bytes(std::as_bytes(std::span(source.data(), source.size()))); }

  std::size_t remaining() const { return out_.size() - at_; }
  std::size_t position() const { return at_; }
  std::span<std::byte> written() const { return out_.first(at_); }

 private:
  void put(std::byte value) {
    CHECK(at_ < out_.size());
    out_[at_++] = value;
  }

  std::span<std::byte> out_;
  std::size_t at_ = 0;
};

}  // namespace slipstream
