#include "wal/ledger.h"

#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "wal/segment.h"

namespace slipstream::wal {
namespace {

constexpr std::string_view kMagic = "SLIPLEDG";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 16;  // magic, version, bytes of the body
constexpr std::size_t kFixedBytes = 24;   // timeline, number of entries, segment
constexpr std::size_t kEntryBytes = 32;
constexpr std::size_t kDigestBytes = 16;

bool is_whole_segment(LsnRange range) {
  if (range.begin >= range.end) return false;
  const ByteCount size = range.size();
  return SegmentLayout::valid_size(size) && range.begin.value % size.value == 0;
}

// Invariant 2, of the block that is to begin at `at`.
bool is_next_block(LsnRange block, Lsn at, Lsn segment_end) {
  const Lsn whole_end = at + ByteCount{kBlockBytes};
  return block.begin == at && at < block.end && block.end <= whole_end && whole_end <= segment_end;
}

bool holds_invariants(const Ledger& ledger) {
  if (!is_whole_segment(ledger.segment) || ledger.blocks.empty()) return false;
  Lsn at = ledger.segment.begin;
  for (const BlockDigest& block : ledger.blocks) {
    if (at.value % kBlockBytes != 0 || !is_next_block(block.range, at, ledger.segment.end)) return false;
    at = block.range.end;
  }
  return true;
}

std::unexpected<Error> refused(std::string what, const std::string& where) {
  return std::unexpected(
      Error{ExitCode::kDirectory, "the ledger " + std::move(what), where,
            "remove this file: the daemon makes it anew from the segment of that name, which nothing "
            "vouches for until then but its records' own checksums"});
}

}  // namespace

std::vector<std::byte> encode(const Ledger& ledger) {
  CHECK(holds_invariants(ledger));
  const std::size_t body = kFixedBytes + ledger.blocks.size() * kEntryBytes;
  std::vector<std::byte> file(kHeaderBytes + body + kDigestBytes);
  ByteWriter writer(file);
  writer.text(kMagic);
  writer.le(kVersion);
  writer.le(static_cast<std::uint32_t>(body));
  writer.le(ledger.timeline.value);
  writer.le(static_cast<std::uint32_t>(ledger.blocks.size()));
  writer.le(ledger.segment.begin.value);
  writer.le(ledger.segment.end.value);
  for (const BlockDigest& block : ledger.blocks) {
    writer.le(block.range.begin.value);
    writer.le(block.range.end.value);
    writer.le(block.digest.high);
    writer.le(block.digest.low);
  }
  const Digest128 digest = xxh3_128(writer.written());
  writer.le(digest.high);
  writer.le(digest.low);
  return file;
}

std::expected<Ledger, Error> decode_ledger(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kHeaderBytes + kDigestBytes)
    return refused("was cut short: it has " + std::to_string(file.size()) + " bytes", where);
  ByteReader reader(file);
  if (reader.text(kMagic.size()) != kMagic) return refused("is none: it does not begin with SLIPLEDG", where);
  const auto version = reader.le<std::uint32_t>();
  const std::uint64_t body = reader.le<std::uint32_t>();
  if (const std::uint64_t wanted = kHeaderBytes + body + kDigestBytes; file.size() != wanted)
    return refused("has " + std::to_string(file.size()) + " bytes instead of " + std::to_string(wanted), where);
  ByteReader seal(file.last(kDigestBytes));
  const auto high = seal.le<std::uint64_t>();
  const auto low = seal.le<std::uint64_t>();
  if (xxh3_128(file.first(file.size() - kDigestBytes)) != Digest128{high, low})
    return refused("is damaged: its checksum does not fit", where);
  if (version != kVersion)
    return refused("has version " + std::to_string(version) + ", this program knows version 1", where);

  Ledger ledger;
  ledger.timeline.value = reader.le<std::uint32_t>();
  const std::uint64_t count = reader.le<std::uint32_t>();
  ledger.segment.begin.value = reader.le<std::uint64_t>();
  ledger.segment.end.value = reader.le<std::uint64_t>();
  if (!reader.ok() || body != kFixedBytes + count * kEntryBytes)
    return refused("was written wrongly: " + std::to_string(count) + " entries in " + std::to_string(body) + " bytes",
                   where);
  ledger.blocks.resize(count);
  for (BlockDigest& block : ledger.blocks) {
    block.range.begin.value = reader.le<std::uint64_t>();
    block.range.end.value = reader.le<std::uint64_t>();
    block.digest.high = reader.le<std::uint64_t>();
    block.digest.low = reader.le<std::uint64_t>();
  }
  if (!holds_invariants(ledger)) return refused("was written wrongly: its blocks are not those of one segment", where);
  return ledger;
}

}  // namespace slipstream::wal
