#include "node/record_ends.h"

#include <gtest/gtest.h>

namespace slipstream::node {
namespace {

constexpr Lsn kNone{1};

TEST(RecordEnds, GiveTheLastAtOrBelowALimitOnce) {
  RecordEnds ends;
  for (const std::uint64_t at : {100u, 200u, 300u}) ends.push(Lsn{at});
  EXPECT_EQ(ends.take_up_to(Lsn{99}, kNone), kNone);
  EXPECT_EQ(ends.take_up_to(Lsn{100}, kNone), Lsn{100});
  EXPECT_EQ(ends.take_up_to(Lsn{199}, kNone), kNone) << "it was taken";
  EXPECT_EQ(ends.take_up_to(Lsn{350}, kNone), Lsn{300});
  EXPECT_EQ(ends.take_up_to(Lsn{350}, kNone), kNone);
}

TEST(RecordEnds, ForgetThoseBefore) {
  RecordEnds ends;
  for (const std::uint64_t at : {100u, 200u, 300u}) ends.push(Lsn{at});
  EXPECT_EQ(ends.take_up_to(Lsn{200}, kNone), Lsn{200});
  EXPECT_EQ(ends.take_up_to(Lsn{150}, kNone), kNone);
  ends.clear();
  EXPECT_EQ(ends.take_up_to(Lsn{300}, kNone), kNone);
}

TEST(RecordEnds, HoldTheEarliestAndTheLatestWhenThereAreTooMany) {
  for (const std::uint64_t taken : {0u, 40u}) {  // Also where they wrap around.
    RecordEnds ends;
    for (std::uint64_t i = 1; i <= taken; ++i) ends.push(Lsn{i}), (void)ends.take_up_to(Lsn{i}, kNone);
    const std::uint64_t many = 3 * RecordEnds::kMost;
    for (std::uint64_t i = 1; i <= many; ++i) ends.push(Lsn{1000 + i});
    EXPECT_EQ(ends.take_up_to(Lsn{1001}, kNone), Lsn{1001});
    EXPECT_EQ(ends.take_up_to(Lsn{1000 + many - 1}, kNone), Lsn{1000 + RecordEnds::kMost - 1});
    EXPECT_EQ(ends.take_up_to(Lsn{1000 + many}, kNone), Lsn{1000 + many});
  }
}

}  // namespace
}  // namespace slipstream::node
