#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "postgres/feed_command.h"
#include "postgres/feed_session.h"

namespace {

using namespace slipstream;
using namespace slipstream::postgres;

constexpr Lsn kBegin{0x100000}, kFedEnd{0x187650};

class Zeros : public FeedSource {
 public:
  Lsn log_begin() const override { return kBegin; }
  const wal::SegmentLayout& layout() const override { return layout_; }
  const wal::TimelineHistory* history(TimelineId) override { return &history_; }
  std::optional<std::string> history_file(TimelineId) override { return std::nullopt; }
  FeedRead read(const wal::TimelineHistory&, Lsn at, std::span<std::byte> out) override {
    CHECK(at >= kBegin && at + ByteCount{out.size()} <= kFedEnd && !out.empty());
    std::ranges::fill(out, std::byte{});
    return FeedRead::kOk;
  }

 private:
  wal::SegmentLayout layout_{ByteCount{1 << 20}};
  wal::TimelineHistory history_ = *wal::TimelineHistory::parse(TimelineId{2}, "1\t0/180000\twhy\n");
};

// A command is understood or refused with a code; what was understood keeps to its bounds.
void parse(std::string_view text) {
  const auto command = parse_feed_command(text);
  if (!command) {
    CHECK(command.error().code.size() == 5 && !command.error().message.empty());
    return;
  }
  if (const auto* slot = std::get_if<CreateSlot>(&*command)) CHECK(!slot->name.empty() && slot->name.size() <= 63);
  if (const auto* fetch = std::get_if<FetchHistory>(&*command)) CHECK(fetch->timeline.value > 0);
}

// Whatever a client sends, in whatever pieces: what it gets is whole messages, of bounded size, without a byte beyond
// the release.
void talk(std::span<const std::byte> bytes) {
  static Zeros source;
  static const FeedContext context{SystemId{1}, 150000, "", seconds(60), &source, [] { return std::int64_t{0}; }};
  const node::Release release{kFedEnd, kFedEnd, TimelineId{2}};
  Instant now{1};
  FeedSession session(context, 1, std::nullopt, now);
  // Most inputs should get past the introduction.
  if (!bytes.empty() && bytes[0] != std::byte{0}) {
    constexpr std::string_view kStartup("\0\0\0\x21\0\3\0\0user\0u\0replication\0true\0\0", 33);
    session.on_bytes(std::as_bytes(std::span(kStartup)), release, now);
    CHECK(!session.ended());
    bytes = bytes.subspan(1);
  }
  while (!bytes.empty() && !session.ended()) {
    const std::size_t piece = std::min<std::size_t>(bytes.size(), 1 + std::to_integer<std::size_t>(bytes[0]) % 61);
    session.on_bytes(bytes.first(piece), release, now);
    bytes = bytes.subspan(piece);
    now = now + milliseconds(7);
    session.advance(release, now);
    CHECK(session.output().size() < 1024 * 1024);
    CHECK(session.sent_end() <= kFedEnd || session.sent_end() == session.start());
    session.on_written(session.output().size() / 2);
  }
  if (!session.ended()) CHECK(session.deadline() > now || session.streaming());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  parse({reinterpret_cast<const char*>(data), size});
  talk(std::as_bytes(std::span(data, size)));
  return 0;
}
