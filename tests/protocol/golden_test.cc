#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "node/io.h"
#include "tests/protocol/samples.h"

namespace slipstream::protocol {
namespace {

static_assert(kControlBytesMax <= node::kHeadBytesMax && kDataHeaderBytes <= node::kHeadBytesMax);

// A golden file is bytes in hexadecimal; '#' begins a comment.
std::filesystem::path path_of(const std::string& name) {
  return std::filesystem::path(SLIPSTREAM_SOURCE_DIR) / "tests" / "golden" / "frames" / (name + ".hex");
}

Bytes read(const std::string& name) {
  std::ifstream in(path_of(name));
  Bytes out;
  for (std::string line, byte; std::getline(in, line);)
    for (std::istringstream words(line.substr(0, line.find('#'))); words >> byte;)
      out.push_back(static_cast<std::byte>(std::stoul(byte, nullptr, 16)));
  return out;
}

void write(const std::string& name, const Bytes& frame) {
  static constexpr struct {
    std::size_t bytes;
    const char* what;
  } kHeader[] = {{4, "magic, version, kind"},
                 {4, "flags, header length"},
                 {8, "cluster"},
                 {8, "stream, source, destination"},
                 {8, "session"},
                 {8, "key, reserved"},
                 {8, "packet number"},
                 {8, "epoch"},
                 {8, "timeline, payload length"},
                 {8, "position"},
                 {8, "flushed_end"},
                 {8, "confirmed_end"},
                 {8, "sent_at"},
                 {16, "tag"}};
  std::ofstream out(path_of(name));
  std::size_t at = 0;
  const auto line = [&](std::size_t bytes, const char* what) {
    static constexpr char kDigits[] = "0123456789abcdef";
    for (const std::size_t end = std::min(at + bytes, frame.size()); at < end; ++at) {
      const auto value = std::to_integer<unsigned>(frame[at]);
      out << kDigits[value >> 4] << kDigits[value & 15] << ' ';
    }
    out << (what ? "# " : "") << (what ? what : "") << "\n";
  };
  for (const auto& field : kHeader) line(field.bytes, field.what);
  if (name == "data") {
    line(8, "batch begin");
    line(8, "batch bytes, reserved");
    line(8, "batch digest");
  }
  line(16, name == "data" ? "payload" : "body");
  while (at < frame.size()) line(16, nullptr);
}

class GoldenFrame : public testing::TestWithParam<std::string> {};

// SLIPSTREAM_REWRITE_GOLDEN=1 writes the files anew: for a change of format that was meant.
TEST_P(GoldenFrame, HasTheCommittedBytesAndIsReadFromThem) {
  const Sample made = sample(GetParam());
  const Bytes frame = encoded(made);
  if (std::getenv("SLIPSTREAM_REWRITE_GOLDEN")) write(made.name, frame);
  const Bytes golden = read(made.name);
  ASSERT_FALSE(golden.empty()) << path_of(made.name)
                               << " is missing: SLIPSTREAM_REWRITE_GOLDEN=1 protocol_test writes it";
  EXPECT_EQ(frame, golden)
      << "the format changed: if that was meant, SLIPSTREAM_REWRITE_GOLDEN=1 protocol_test writes it anew";
  Frame out;
  ASSERT_EQ(decode(golden, out), Verdict::kAccepted);
  EXPECT_EQ(out.header, made.header);
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const Sample& each : samples()) out.push_back(each.name);
  return out;
}
INSTANTIATE_TEST_SUITE_P(, GoldenFrame, testing::ValuesIn(names()),
                         [](const auto& instance) { return instance.param; });

TEST(GoldenFrames, CoverEveryKindOfVersion1) {
  std::vector<bool> seen(std::variant_size_v<Body>);
  for (const Sample& each : samples()) seen[each.body.index()] = true;
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_TRUE(seen[i]) << "no sample of body " << i;
}

}  // namespace
}  // namespace slipstream::protocol
