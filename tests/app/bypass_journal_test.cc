#include "app/bypass_journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace slipstream::app {
namespace {

struct BypassJournals : testing::Test {
  std::filesystem::path directory = std::filesystem::temp_directory_path() / ("bypass-" + std::to_string(getpid()));
  void SetUp() override { std::filesystem::create_directories(directory); }
  void TearDown() override { std::filesystem::remove_all(directory); }
  void add_text(const std::string& text) { std::ofstream(directory / "bypass.jsonl", std::ios::app) << text; }
};

BypassEntry entry(bool on, const std::string& reason) {
  return {on, "2026-11-23T12:00:00Z", "ann", reason, "ANY 1 (slipstream)", true};
}

TEST_F(BypassJournals, HaveNoNewestEntryBeforeTheFirst) {
  const auto newest = BypassJournal(directory).newest();
  ASSERT_TRUE(newest);
  EXPECT_FALSE(*newest);
}

TEST_F(BypassJournals, GiveBackTheNewestEntry) {
  BypassJournal journal(directory);
  ASSERT_TRUE(journal.append(entry(true, "first")));
  ASSERT_TRUE(journal.append(entry(false, "a \"quoted\"\nreason \xff")));
  const auto newest = journal.newest();
  ASSERT_TRUE(newest && *newest);
  EXPECT_FALSE((*newest)->on);
  EXPECT_TRUE((*newest)->reason.starts_with("a \"quoted\"\nreason "));
  EXPECT_EQ((*newest)->names_before, "ANY 1 (slipstream)");
  EXPECT_TRUE((*newest)->by_alter_system);
}

TEST_F(BypassJournals, PassOverATornLine) {
  BypassJournal journal(directory);
  ASSERT_TRUE(journal.append(entry(true, "kept")));
  add_text("{\"bypass\": \"off\", \"sin");
  EXPECT_EQ((*journal.newest())->reason, "kept");
  ASSERT_TRUE(journal.append(entry(false, "after it")));
  EXPECT_EQ((*journal.newest())->reason, "after it");
}

TEST_F(BypassJournals, PassOverWhatIsNoEntry) {
  add_text("[]\nnull\n{}\n{\"bypass\": 1}\nnonsense\n");
  EXPECT_FALSE(*BypassJournal(directory).newest());
}

TEST_F(BypassJournals, SayWhenTheyCannotBeKept) {
  const auto kept = BypassJournal(directory / "absent").append(entry(true, "x"));
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, ExitCode::kStorage);
  EXPECT_NE(kept.error().where.find("absent"), std::string::npos);
}

}  // namespace
}  // namespace slipstream::app
