#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "protocol/frame.h"
#include "protocol/receiver.h"
#include "protocol/sealed_frame.h"
#include "protocol/sender.h"
#include "tests/fuzz/make_right.h"

namespace {

using namespace slipstream;
using namespace slipstream::protocol;

// What both halves of a session do with whatever was accepted.
void give(const Frame& frame) {
  static std::vector<std::byte> ring(2 * kBatchBoundary);
  const Instant now{1'000'000'000};
  const Lsn begin{kBatchBoundary};
  if (const auto* ack = std::get_if<Ack>(&frame.body)) {
    Sender sender(begin, begin + ByteCount{ring.size()}, milliseconds(50), now);
    sender.offer({{begin, begin + ByteCount{5000}}, 0});
    while (const auto piece = sender.peek_piece(1000, now)) sender.pop_piece(*piece, now);
    const Verdict verdict = sender.on_ack(*ack, now);
    CHECK(verdict == Verdict::kAccepted || sender.received_end() == begin);
    while (const auto piece = sender.peek_piece(1000, now)) sender.pop_piece(*piece, now);
    CHECK(sender.sent_end() <= sender.offered_end() && sender.received_end() <= sender.sent_end());
    return;
  }
  Receiver receiver(ring, begin, begin, now);
  const auto* data = std::get_if<Data>(&frame.body);
  if (data) (void)receiver.on_data(frame.header, *data, now);
  if (const auto* probe = std::get_if<Probe>(&frame.body)) receiver.on_probe(frame.header, *probe, now);
  Ack ack;
  receiver.fill_ack(ack, now + seconds(1));
  CHECK(receiver.received_end() >= begin && receiver.sent_end() <= receiver.window_end());
  std::array<std::byte, kControlBytesMax> bytes;
  Frame again;
  const std::size_t size = encode({}, ack, bytes);
  CHECK(decode(std::span(bytes).first(size), again) == Verdict::kAccepted);
}

// What is accepted is written again as something that is accepted, within the limits.
void try_frame(std::span<const std::byte> bytes) {
  Frame frame;
  if (decode(bytes, frame) != Verdict::kAccepted) return;
  give(frame);
  std::array<std::byte, kControlBytesMax> head;
  std::vector<std::byte> again;
  if (const auto* data = std::get_if<Data>(&frame.body)) {
    const std::size_t size = encode_data_head(frame.header, data->batch, data->payload.size(), head);
    again.assign(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(size));
    again.insert(again.end(), data->payload.begin(), data->payload.end());
  } else if (const auto* path = std::get_if<PathProbe>(&frame.body)) {
    encode_path_probe_head(frame.header, *path, head);
    again.assign(head.begin(), head.begin() + kPathProbeHeaderBytes);
    again.resize(path->frame_bytes);
  } else {
    const std::size_t size = encode(frame.header, frame.body, head);
    again.assign(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(size));
  }
  Frame second;
  CHECK(decode(again, second) == Verdict::kAccepted);
  CHECK(second.header == frame.header && second.body.index() == frame.body.index());
}

// A peer with keys may send anything: opened, without a tag to be looked at, it is refused for what it is refused for
// in plaintext with a right tag.
void try_sealed(std::vector<std::byte> plain) {
  static seal::Sealing sealing{seal::Secret(), 1};
  static seal::Opening opening{seal::Secret(), 1};
  static seal::GroupOpening group;
  const std::span<std::byte> all(plain);
  ByteWriter(all.subspan(kKeyOffset)).le(std::uint32_t{0});
  plain[4] &= ~static_cast<std::byte>(kGroupSealed);
  renew_tag(all);
  Frame frame;
  const Verdict wanted = decode(plain, frame);
  std::vector<std::byte> sealed(plain.size());
  seal_frame(plain, {}, sealing, sealed);
  Arrival arrival(sealed);
  CHECK(open_frame(arrival, opening, group) == Verdict::kAccepted);
  CHECK(decode(arrival, frame) == wanted);
}

}  // namespace

// Once as it is, and once with the lengths and the tag made right, or no input would ever come that far.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  try_frame(input);
  std::vector<std::byte> frame(input.begin(), input.end());
  if (frame.size() >= kHeaderBytes) try_sealed(frame);
  if (!make_right(frame)) return 0;
  try_frame(frame);
  try_sealed(frame);
  return 0;
}
