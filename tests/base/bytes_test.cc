#include "base/bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace slipstream {
namespace {

template <std::size_t N>
std::array<std::byte, N> bytes(const unsigned char (&values)[N]) {
  std::array<std::byte, N> out;
  for (std::size_t i = 0; i < N; ++i) out[i] = std::byte{values[i]};
  return out;
}

TEST(ByteReader, ReadsBothOrders) {
  const auto input = bytes({0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08});
  EXPECT_EQ(ByteReader(input).le<std::uint8_t>(), 0x01);
  EXPECT_EQ(ByteReader(input).be<std::uint8_t>(), 0x01);
  EXPECT_EQ(ByteReader(input).le<std::uint16_t>(), 0x0201);
  EXPECT_EQ(ByteReader(input).be<std::uint16_t>(), 0x0102);
  EXPECT_EQ(ByteReader(input).le<std::uint32_t>(), 0x04030201u);
  EXPECT_EQ(ByteReader(input).be<std::uint32_t>(), 0x01020304u);
  EXPECT_EQ(ByteReader(input).le<std::uint64_t>(), 0x0807060504030201u);
  EXPECT_EQ(ByteReader(input).be<std::uint64_t>(), 0x0102030405060708u);
}

TEST(ByteReader, YieldsZerosAndIsNotOkForGoodOnceItRanOut) {
  const auto input = bytes({0xff, 0xff, 0xff});
  ByteReader reader(input);
  EXPECT_EQ(reader.le<std::uint16_t>(), 0xffff);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.le<std::uint16_t>(), 0);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.position(), 2u);
  (void)reader.le<std::uint8_t>();
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, TakesBytesAndTextByCountAndNotBeyondTheEnd) {
  const auto input = bytes({'a', 'b', 'c', 'd'});
  ByteReader reader(input);
  EXPECT_EQ(reader.text(3), "abc");
  EXPECT_EQ(reader.remaining(), 1u);
  EXPECT_TRUE(reader.bytes(2).empty());
  EXPECT_FALSE(reader.ok());
  ByteReader huge(input);
  EXPECT_TRUE(huge.bytes(SIZE_MAX).empty());
  EXPECT_FALSE(huge.ok());
  EXPECT_TRUE(ByteReader({}).ok());
}

TEST(ByteWriter, WritesWhatTheReaderReads) {
  std::vector<std::byte> out(64);
  ByteWriter writer(out);
  writer.le(std::uint8_t{0xab});
  writer.le(std::uint16_t{0x1234});
  writer.be(std::uint16_t{0x1234});
  writer.le(std::uint32_t{0xdeadbeef});
  writer.be(std::uint32_t{0xdeadbeef});
  writer.le(std::uint64_t{0x0123456789abcdef});
  writer.be(std::uint64_t{0x0123456789abcdef});
  writer.text("xyz");
  writer.bytes({});
  EXPECT_EQ(writer.position(), 32u);
  EXPECT_EQ(writer.remaining(), 32u);
  ByteReader reader(writer.written());
  EXPECT_EQ(reader.le<std::uint8_t>(), 0xab);
  EXPECT_EQ(reader.le<std::uint16_t>(), 0x1234);
  EXPECT_EQ(reader.be<std::uint16_t>(), 0x1234);
  EXPECT_EQ(reader.le<std::uint32_t>(), 0xdeadbeef);
  EXPECT_EQ(reader.be<std::uint32_t>(), 0xdeadbeef);
  EXPECT_EQ(reader.le<std::uint64_t>(), 0x0123456789abcdefu);
  EXPECT_EQ(reader.be<std::uint64_t>(), 0x0123456789abcdefu);
  EXPECT_EQ(reader.text(3), "xyz");
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(ByteWriterDeathTest, ABufferThatIsTooSmallIsOurMistake) {
  std::array<std::byte, 3> out{};
  EXPECT_DEATH(ByteWriter(out).le(std::uint32_t{1}), "CHECK");
  EXPECT_DEATH(ByteWriter(out).text("four"), "CHECK");
}

}  // namespace
}  // namespace slipstream
