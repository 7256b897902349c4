#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/nearest.h"
#include "base/time.h"

namespace slipstream {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// The published values for the empty input and seed 0.
TEST(Digest, OfNothingIsWhatXxHashPublishes) {
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2u);
  EXPECT_EQ(xxh3_128({}), (Digest128{0x99aa06d3014798d8, 0x6001c324468d497f}));
  EXPECT_NE(xxh3_64(bytes("a")), xxh3_64(bytes("b")));
}

TEST(Epoch, IsOrderedByTermAndThenIncarnation) {
  EXPECT_LT((Epoch{1, 99}), (Epoch{2, 0}));
  EXPECT_LT((Epoch{2, 0}), (Epoch{2, 1}));
  EXPECT_EQ(to_string(Epoch{3, 17}), "3.17");
}

TEST(Random128, IsReadBackAsItWasPrinted) {
  const Random128 bits{0x0123456789abcdef, 0x00000000000000ff};
  EXPECT_EQ(to_string(bits), "0123456789abcdef00000000000000ff");
  EXPECT_EQ(parse_random128(to_string(bits)), bits);
  EXPECT_TRUE(Random128{}.none());
  EXPECT_FALSE(bits.none());
}

TEST(Random128, IsNotReadFromAnythingElse) {
  const std::string right(32, 'a');
  for (const std::string& text :
       {std::string(), right.substr(1), right + "a", "g" + right.substr(1), right.substr(1) + " "})
    EXPECT_EQ(parse_random128(text), std::nullopt) << text;
}

TEST(Nearest, FindsALikelySlipAndNothingFarFetched) {
  const std::vector<std::string> words{"policy", "port", "role"};
  EXPECT_EQ(nearest("polcy", words), "policy");
  EXPECT_EQ(nearest("prot", words), "port");
  EXPECT_EQ(nearest("role", words), "role");
  EXPECT_EQ(nearest("synchronous", words), std::nullopt);
  EXPECT_EQ(nearest("policy", {}), std::nullopt);
}

TEST(Error, SaysWhereWhatAndWhatToDo) {
  EXPECT_EQ((Error{ExitCode::kPort, "no such port", "a.toml:3", "name another"}).message(),
            "a.toml:3: no such port\n  to do: name another");
  EXPECT_EQ((Error{ExitCode::kPort, "no such port", "", ""}).message(), "no such port");
}

TEST(Duration, UnitsAreWhatTheySay) {
  EXPECT_EQ(milliseconds(3), microseconds(3000));
  EXPECT_EQ(seconds(1), Duration{1'000'000'000});
  EXPECT_EQ(Instant{} + seconds(2) - (Instant{} + seconds(1)), milliseconds(500) * 2);
  EXPECT_LT(Instant{} + seconds(1), kNever);
}

}  // namespace
}  // namespace slipstream
