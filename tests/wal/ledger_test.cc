#include "wal/ledger.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/bytes.h"

namespace slipstream::wal {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kMiB = 1u << 20;
constexpr std::size_t kBodyAt = 16;
constexpr std::size_t kFirstEntryAt = kBodyAt + 24;
constexpr std::size_t kDigestBytes = 16;

// Of a segment of 1 MiB: its first `blocks` blocks, the last one `last_bytes` long.
Ledger ledger_of(std::size_t blocks, std::uint64_t last_bytes = kBlockBytes) {
  Ledger out{TimelineId{2}, {Lsn{5 * kMiB}, Lsn{6 * kMiB}}, {}};
  for (std::size_t i = 0; i < blocks; ++i) {
    const Lsn begin{5 * kMiB + i * kBlockBytes};
    const ByteCount size{i + 1 == blocks ? last_bytes : kBlockBytes};
    out.blocks.push_back({{begin, begin + size}, Digest128{0x0123456789abcdef + i, 0xfedcba9876543210 - i}});
  }
  return out;
}

// `file` with a checksum that fits.
Bytes sealed(Bytes file) {
  const Digest128 digest = xxh3_128(std::span(file).first(file.size() - kDigestBytes));
  ByteWriter writer{std::span(file).last(kDigestBytes)};
  writer.le(digest.high);
  writer.le(digest.low);
  return file;
}

template <class T>
Bytes with(Bytes file, std::size_t at, T value) {
  ByteWriter{std::span(file).subspan(at)}.le(value);
  return sealed(std::move(file));
}

void expect_refused(const Bytes& file, std::string_view why) {
  const auto ledger = decode_ledger(file, "dir/ledger/X");
  ASSERT_FALSE(ledger.has_value()) << why;
  EXPECT_EQ(ledger.error().code, ExitCode::kDirectory);
  EXPECT_EQ(ledger.error().where, "dir/ledger/X");
  EXPECT_NE(ledger.error().what.find(why), std::string::npos) << ledger.error().what << " does not say: " << why;
  EXPECT_FALSE(ledger.error().remedy.empty());
}

// A golden file is bytes in hexadecimal; '#' begins a comment.
std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(SLIPSTREAM_SOURCE_DIR) / "tests" / "golden" / "ledger" / (name + ".hex");
}

Bytes read_golden(const std::string& name) {
  std::ifstream in(golden_path(name));
  Bytes out;
  for (std::string line, byte; std::getline(in, line);)
    for (std::istringstream words(line.substr(0, line.find('#'))); words >> byte;)
      out.push_back(static_cast<std::byte>(std::stoul(byte, nullptr, 16)));
  return out;
}

void write_golden(const std::string& name, const Bytes& file) {
  std::ofstream out(golden_path(name));
  std::size_t at = 0;
  const auto line = [&](std::size_t bytes, const std::string& comment) {
    static constexpr char kDigits[] = "0123456789abcdef";
    for (const std::size_t end = at + bytes; at < end; ++at) {
      const auto value = std::to_integer<unsigned>(file[at]);
      out << kDigits[value >> 4] << kDigits[value & 15] << ' ';
    }
    out << "# " << comment << "\n";
  };
  line(8, "magic");
  line(4, "version");
  line(4, "bytes of the body");
  line(4, "timeline");
  line(4, "number of entries");
  line(16, "segment: begin, end");
  while (at + kDigestBytes < file.size()) {
    line(16, "entry: begin, end");
    line(16, "digest: high, low");
  }
  line(kDigestBytes, "checksum");
}

class GoldenLedger : public testing::TestWithParam<std::pair<const char*, Ledger>> {};

// SLIPSTREAM_REWRITE_GOLDEN=1 writes the files anew: for a change of format that was meant.
TEST_P(GoldenLedger, HasTheCommittedBytesAndIsReadFromThem) {
  const auto& [name, ledger] = GetParam();
  if (std::getenv("SLIPSTREAM_REWRITE_GOLDEN")) write_golden(name, encode(ledger));
  const Bytes golden = read_golden(name);
  ASSERT_FALSE(golden.empty()) << golden_path(name);
  EXPECT_EQ(encode(ledger), golden);
  const auto read = decode_ledger(golden, "ledger");
  ASSERT_TRUE(read.has_value()) << read.error().message();
  EXPECT_EQ(*read, ledger);
}

INSTANTIATE_TEST_SUITE_P(, GoldenLedger,
                         testing::Values(std::pair{"segment_v1", ledger_of(16)},
                                         std::pair{"first_blocks_v1", ledger_of(3, 8200)}),
                         [](const auto& instance) { return std::string(instance.param.first); });

TEST(Ledger, RefusesEveryPrefixOfItselfAndAnythingBehindIt) {
  for (const Ledger& ledger : {ledger_of(16), ledger_of(1, 1)}) {
    Bytes file = encode(ledger);
    for (std::size_t size = 0; size < file.size(); ++size)
      ASSERT_FALSE(decode_ledger(std::span(file).first(size), "ledger").has_value()) << size << " bytes";
    ASSERT_TRUE(decode_ledger(file, "ledger").has_value());
    file.push_back(std::byte{0});
    ASSERT_FALSE(decode_ledger(file, "ledger").has_value());
  }
}

TEST(Ledger, RefusesEverySingleFlippedBit) {
  Bytes file = encode(ledger_of(16));
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    const std::byte mask{static_cast<unsigned char>(1u << (bit % 8))};
    file[bit / 8] ^= mask;
    ASSERT_FALSE(decode_ledger(file, "ledger").has_value()) << "bit " << bit;
    file[bit / 8] ^= mask;
  }
  ASSERT_TRUE(decode_ledger(file, "ledger").has_value());
}

TEST(Ledger, SaysWhatIsWrongWithDamageAndWhatToDo) {
  const Bytes file = encode(ledger_of(16));
  expect_refused({}, "cut short: it has 0 bytes");
  expect_refused(Bytes(file.begin(), file.end() - 1),
                 std::to_string(file.size() - 1) + " bytes instead of " + std::to_string(file.size()));
  Bytes flipped = file;
  flipped[100] ^= std::byte{1};
  expect_refused(flipped, "checksum does not fit");
  Bytes other = file;
  other[0] = std::byte{'X'};
  expect_refused(other, "does not begin with SLIPLEDG");
}

TEST(Ledger, CallsANewerVersionByItsNumberAndADamagedOneDamage) {
  Bytes file = encode(ledger_of(16));
  expect_refused(with(file, 8, std::uint32_t{2}), "version 2");
  file[8] = std::byte{2};
  expect_refused(file, "checksum does not fit");
}

TEST(Ledger, RefusesBlocksThatAreNotThoseOfOneSegmentWhateverTheChecksumSays) {
  const Bytes file = encode(ledger_of(4));
  const std::string_view why = "not those of one segment";
  ASSERT_TRUE(decode_ledger(sealed(file), "ledger").has_value());
  expect_refused(with(file, kBodyAt + 4, std::uint32_t{3}), "3 entries in");
  expect_refused(with(file, kBodyAt + 4, std::uint32_t{0xffffffff}), "4294967295 entries in");
  expect_refused(with(file, kBodyAt + 8, std::uint64_t{5 * kMiB + 8192}), why);     // No segment's begin.
  expect_refused(with(file, kBodyAt + 16, std::uint64_t{5 * kMiB}), why);           // An empty segment.
  expect_refused(with(file, kBodyAt + 16, std::uint64_t{4 * kMiB}), why);           // It ends before it begins.
  expect_refused(with(file, kBodyAt + 16, std::uint64_t{6 * kMiB + 1}), why);       // No segment's size.
  expect_refused(with(file, kFirstEntryAt, std::uint64_t{4 * kMiB}), why);          // Begins before the segment.
  expect_refused(with(file, kFirstEntryAt + 8, std::uint64_t{5 * kMiB}), why);      // An empty block.
  expect_refused(with(file, kFirstEntryAt + 8, std::uint64_t{5 * kMiB + 8}), why);  // A gap behind it.
  expect_refused(with(file, kFirstEntryAt + 8, std::uint64_t{5 * kMiB + 2 * kBlockBytes}),
                 why);  // Longer than a block.
  const Bytes none = [&] {
    Bytes empty(file.begin(), file.begin() + kFirstEntryAt);
    empty.resize(empty.size() + kDigestBytes);
    empty = with(empty, 12, std::uint32_t{24});
    return with(empty, kBodyAt + 4, std::uint32_t{0});
  }();
  expect_refused(none, why);
}

TEST(LedgerDeathTest, ChecksWhatItIsGivenToWrite) {
  EXPECT_DEATH((void)encode(Ledger{}), "CHECK");
  EXPECT_DEATH((void)encode(ledger_of(17)), "CHECK");
}

}  // namespace
}  // namespace slipstream::wal
