#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "wal/recovery.h"
#include "wal/wal_writer.h"

// Recovery of a log whose disk did whatever it liked to it: the input is what happened to some valid WAL over two
// segments, and how reads are cut.
namespace {

using namespace slipstream;
using namespace slipstream::wal;

constexpr ByteCount kSegment{1u << 20};
constexpr SystemId kSystem{77};
constexpr std::size_t kSector = 512;

struct Log {
  Lsn begin{kSegment.value - 40 * 1024};
  std::vector<std::byte> bytes;
  std::vector<Lsn> ends;  // Of its records.
};

Log make_log() {
  Log log;
  WalWriter writer(log.begin, kSegment, kSystem);
  for (std::size_t i = 0; i < 60; ++i) log.ends.push_back(writer.record(16 + i * 37 % 3000));
  const auto all = writer.at({log.begin, writer.end()});
  log.bytes.assign(all.begin(), all.end());
  log.bytes.resize((log.bytes.size() / kSector + 4) * kSector);  // Zeros: what is preallocated.
  return log;
}

class Disk : public SegmentSource {
 public:
  Disk(Lsn begin, std::span<const std::byte> bytes, std::size_t read_bytes_max)
      : begin_(begin), bytes_(bytes), read_bytes_max_(read_bytes_max) {}
  std::size_t read(Lsn at, std::span<std::byte> out) override {
    const std::size_t from = (at - begin_).value;
    if (from >= bytes_.size()) return 0;
    const auto got = bytes_.subspan(from, std::min({out.size(), bytes_.size() - from, read_bytes_max_}));
    std::ranges::copy(got, out.begin());
    return got.size();
  }

 private:
  Lsn begin_;
  std::span<const std::byte> bytes_;
  std::size_t read_bytes_max_;
};

void damage(std::vector<std::byte>& bytes, ByteReader& in) {
  while (in.remaining() >= 6 && !bytes.empty()) {
    const auto what = in.le<std::uint8_t>();
    const std::size_t at = in.le<std::uint32_t>() % bytes.size();
    const auto value = in.le<std::uint8_t>();
    const auto sector = std::span(bytes).subspan(at / kSector * kSector);
    const std::size_t count = std::min(kSector, sector.size());
    switch (what % 4) {
      case 0:
        bytes[at] ^= static_cast<std::byte>(value);
        break;
      case 1:  // Never written.
        std::ranges::fill(sector.first(count), std::byte{0});
        break;
      case 2:  // Another one's bytes.
        if (const std::size_t from = value * kSector; from + count <= bytes.size())
          std::memmove(sector.data(), bytes.data() + from, count);
        break;
      default:
        bytes.resize(at);
        break;
    }
  }
}

Recovered recovered(const Log& log, std::span<const std::byte> bytes, std::size_t read_bytes_max) {
  Disk disk(log.begin, bytes, read_bytes_max);
  return recover(disk, SegmentLayout(kSegment), log.begin, Scanner::Start::kPage, {kSystem, {}});
}

}  // namespace

// Every record before the first damage is found, nothing beyond what is there, and however reads are cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Log log = make_log();
  ByteReader in(std::as_bytes(std::span(data, size)));
  const std::size_t read_bytes_max = 1 + in.le<std::uint16_t>();
  std::vector<std::byte> bytes = log.bytes;
  damage(bytes, in);
  const auto first_difference = std::ranges::mismatch(bytes, log.bytes).in1 - bytes.begin();
  const Lsn intact_end = log.begin + ByteCount{static_cast<std::uint64_t>(first_difference)};
  const auto behind = std::ranges::upper_bound(log.ends, intact_end);
  const Lsn held_end = behind == log.ends.begin() ? log.begin : *std::prev(behind);

  const Recovered whole = recovered(log, bytes, SIZE_MAX), cut = recovered(log, bytes, read_bytes_max);
  CHECK(whole.durable_end >= held_end && whole.durable_end <= log.begin + ByteCount{bytes.size()});
  CHECK(whole.durable_end == cut.durable_end && whole.last_record_begin == cut.last_record_begin);
  CHECK(whole.stopped_by == cut.stopped_by && whole.stopped_at == cut.stopped_at);
  return 0;
}
