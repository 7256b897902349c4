#include "postgres/sync_names.h"

#include <gtest/gtest.h>

namespace slipstream::postgres {
namespace {

TEST(SyncNames, ContainUsWhenTheOthersCannotSatisfyThem) {
  for (const char* names : {"slipstream", "FIRST 1 (slipstream)", "ANY 1 (slipstream)", "1 (slipstream)",
                            "first 1(slipstream)", "Any 1 ( slipstream )", "ANY 2 (slipstream, other)",
                            "2 (other, slipstream)", "FIRST 3 (slipstream, x, y)", "\tslipstream\n"})
    EXPECT_TRUE(names_always_contain(names, "slipstream")) << names;
}

TEST(SyncNames, DoNotContainUsWhenTheOthersCan) {
  for (const char* names :
       {"", " ", "other", "slipstream2", "slipstream, other", "other, slipstream", "ANY 1 (slipstream, other)",
        "FIRST 1 (slipstream, other)", "1 (slipstream, other)", "ANY 2 (slipstream, x, y)"})
    EXPECT_FALSE(names_always_contain(names, "slipstream")) << names;
}

TEST(SyncNames, StandForEverybodyWithAStarQuotedOrNot) {
  for (const char* names : {"*", "\"*\"", "ANY 1 (*)", "FIRST 2 (slipstream, *)", "2 (*, slipstream)", "slipstream, *"})
    EXPECT_FALSE(names_always_contain(names, "slipstream")) << names;
}

TEST(SyncNames, IgnoreCaseAndUnderstandQuotes) {
  EXPECT_TRUE(names_always_contain("SLIPSTREAM", "slipstream"));
  EXPECT_TRUE(names_always_contain("slipstream", "SlipStream"));
  EXPECT_TRUE(names_always_contain("\"SlipStream\"", "slipstream"));
  EXPECT_TRUE(names_always_contain("\"a b, (c\"", "a b, (c"));
  EXPECT_TRUE(names_always_contain("\"with \"\"quotes\"\"\"", "with \"quotes\""));
  EXPECT_TRUE(names_always_contain("ANY 1 (\"first\")", "first"));
  EXPECT_TRUE(names_always_contain("\"any\"", "any")) << "a name, once it is quoted";
  EXPECT_FALSE(names_always_contain("\"slipstream, other\"", "slipstream")) << "one name";
  EXPECT_TRUE(names_always_contain("7", "7")) << "a number may be a name";
  EXPECT_TRUE(names_always_contain("2 (7, slipstream)", "slipstream"));
  EXPECT_TRUE(names_always_contain("and", "and")) << "a word of our policies, a name to PostgreSQL";
}

TEST(SyncNames, CountANameOnceHoweverOftenItStandsThere) {
  EXPECT_TRUE(names_always_contain("2 (slipstream, other, OTHER)", "slipstream"));
  EXPECT_TRUE(names_always_contain("slipstream, slipstream", "slipstream"));
  EXPECT_FALSE(names_always_contain("ANY 2 (slipstream, slipstream, x, y)", "slipstream"));
}

TEST(SyncNames, ThatAreNotUnderstoodContainNobody) {
  for (const char* names :
       {"ANY (slipstream)", "FIRST slipstream", "any", "ANY 1 slipstream", "ANY 1 (slipstream", "1 (slipstream))",
        "slipstream,", ",slipstream", "slipstream other", "\"slipstream", "1 ()", "slip-stream",
        "ANY 99999999999999999999 (slipstream)", "FIRST 1 (slipstream) AND ANY 1 (slipstream)"})
    EXPECT_FALSE(names_always_contain(names, "slipstream")) << names;
}

}  // namespace
}  // namespace slipstream::postgres
