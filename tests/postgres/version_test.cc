#include <gtest/gtest.h>

#include "postgres/sql_session.h"

namespace slipstream::postgres {
namespace {

TEST(Version, IsServedOnlyWhereItsWalIsAmongTheTests) {
  EXPECT_EQ(objection_to_version(150000), std::nullopt);
  EXPECT_EQ(objection_to_version(150020), std::nullopt);
  for (const std::uint32_t other : {120010u, 130005u, 140001u, 160001u, 170002u, 180000u, 190000u}) {
    const auto objection = objection_to_version(other);
    ASSERT_TRUE(objection.has_value()) << other;
    EXPECT_EQ(objection->code, ExitCode::kDatabase);
    const std::string name = "PostgreSQL " + std::to_string(other / 10000) + " is not supported";
    EXPECT_NE(objection->what.find(name), std::string::npos) << objection->what;
    EXPECT_NE(objection->remedy.find("use version 15"), std::string::npos) << objection->remedy;
  }
}

}  // namespace
}  // namespace slipstream::postgres
