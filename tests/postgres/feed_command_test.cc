#include "postgres/feed_command.h"

#include <gtest/gtest.h>

#include <string>

#include "postgres/feed_startup.h"

namespace slipstream::postgres {
namespace {

// What was understood, as a line.
std::string understood(std::string_view text) {
  const auto command = parse_feed_command(text);
  if (!command) return command.error().code + " " + command.error().message;
  struct Printer {
    std::string operator()(const NoCommand&) const { return "nothing"; }
    std::string operator()(const IdentifySystem&) const { return "identify"; }
    std::string operator()(const Show& c) const { return "show " + c.name; }
    std::string operator()(const FetchHistory& c) const { return "history " + std::to_string(c.timeline.value); }
    std::string operator()(const CreateSlot& c) const {
      return (c.temporary ? "create temporary " : "create ") + c.name;
    }
    std::string operator()(const ReadSlot& c) const { return "read " + c.name; }
    std::string operator()(const DropSlot& c) const { return "drop " + c.name; }
    std::string operator()(const StartStreaming& c) const {
      return "start " + (c.slot.empty() ? "" : "on " + c.slot + " ") + to_string(c.start) + " timeline " +
             std::to_string(c.timeline.value);
    }
    std::string operator()(const TakeBackup&) const { return "backup"; }
    std::string operator()(const AskConstant& c) const { return c.column + " is \"" + c.value + "\""; }
  };
  return std::visit(Printer{}, *command);
}

TEST(FeedCommand, UnderstandsWhatWalreceiversOfAllVersionsSend) {
  const std::pair<const char*, const char*> transcript[] = {
      {"IDENTIFY_SYSTEM", "identify"},
      {"TIMELINE_HISTORY 7", "history 7"},
      {"CREATE_REPLICATION_SLOT \"pg_walreceiver_1234\" TEMPORARY PHYSICAL RESERVE_WAL",
       "create temporary pg_walreceiver_1234"},
      {"CREATE_REPLICATION_SLOT \"pg_walreceiver_1234\" TEMPORARY PHYSICAL (RESERVE_WAL)",
       "create temporary pg_walreceiver_1234"},
      {"START_REPLICATION 0/3000000 TIMELINE 1", "start 0/3000000 timeline 1"},
      {"START_REPLICATION SLOT \"a_1\" 16/B3000000 TIMELINE 4294967295",
       "start on a_1 16/B3000000 timeline 4294967295"},
  };
  for (const auto& [text, expected] : transcript) EXPECT_EQ(understood(text), expected) << text;
}

TEST(FeedCommand, UnderstandsWhatPostgresqlsToolsAndPeopleSend) {
  const std::pair<const char*, const char*> transcript[] = {
      {"SHOW data_directory_mode", "show data_directory_mode"},
      {"SHOW wal_segment_size;", "show wal_segment_size"},
      {"  identify_system ; ", "identify"},
      {"READ_REPLICATION_SLOT s", "read s"},
      {"CREATE_REPLICATION_SLOT \"s\" PHYSICAL", "create s"},
      {"CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL true, SNAPSHOT 'nothing')", "create s"},
      {"DROP_REPLICATION_SLOT s WAIT", "drop s"},
      {"START_REPLICATION PHYSICAL 0/0", "start 0/0 timeline 0"},
      {"start_replication slot S physical ffffffff/ffffffff", "start on s FFFFFFFF/FFFFFFFF timeline 0"},
      {"BASE_BACKUP ( LABEL 'x''y', PROGRESS )", "backup"},
      {"SELECT pg_catalog.set_config('search_path', '', false);", "set_config is \"\""},
      {"SELECT pg_catalog.pg_is_in_recovery()", "pg_is_in_recovery is \"f\""},
      {"", "nothing"},
      {" ;; ", "nothing"},
  };
  for (const auto& [text, expected] : transcript) EXPECT_EQ(understood(text), expected) << text;
}

TEST(FeedCommand, RefusesTheRestByName) {
  const std::pair<const char*, const char*> transcript[] = {
      {"SELECT 1", "0A000 cannot execute SQL commands on a replica's feed"},
      {"VACUUM set_config", "0A000 cannot execute SQL commands on a replica's feed"},
      {"IDENTIFY_SYSTEM twice", "42601 syntax error in a replication command at or near \"twice\""},
      {"START_REPLICATION", "42601 syntax error at the end of a replication command"},
      {"START_REPLICATION 0-3000000", "42601 syntax error in a replication command at or near \"0\""},
      {"START_REPLICATION 0/1/2", "42601 syntax error in a replication command at or near \"0/1/2\""},
      {"START_REPLICATION 0/123456789", "42601 syntax error in a replication command at or near \"0/123456789\""},
      {"START_REPLICATION 0/3000000 TIMELINE 0", "42601 invalid timeline 0"},
      {"START_REPLICATION 0/3000000 TIMELINE 4294967296",
       "42601 syntax error in a replication command at or near \"4294967296\""},
      {"START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1')", "0A000 a replica's feed streams physical WAL only"},
      {"CREATE_REPLICATION_SLOT s LOGICAL pgoutput", "0A000 a replica's feed streams physical WAL only"},
      {"CREATE_REPLICATION_SLOT s", "42601 syntax error at the end of a replication command"},
      {"CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL", "42601 syntax error at the end of a replication command"},
      {"CREATE_REPLICATION_SLOT \"A b\" PHYSICAL", "42602 replication slot name \"A b\" contains invalid character"},
      {"CREATE_REPLICATION_SLOT \"\" PHYSICAL", "42602 replication slot name \"\" is too short"},
      {"SHOW", "42601 syntax error at the end of a replication command"},
      {"SHOW 'x'", "42601 syntax error in a replication command at or near \"x\""},
      {"TIMELINE_HISTORY -1", "42601 syntax error in a replication command at or near \"-\""},
      {"TIMELINE_HISTORY 0", "42601 invalid timeline 0"},
      {"\"IDENTIFY_SYSTEM\"", "0A000 cannot execute SQL commands on a replica's feed"},
      {"SHOW \"unfinished", "42601 syntax error in a replication command at or near \"\"unfinished\""},
  };
  for (const auto& [text, expected] : transcript) EXPECT_EQ(understood(text), expected) << text;
}

std::vector<std::byte> packet(std::uint32_t code, std::string_view rest) {
  std::vector<std::byte> out;
  for (const std::uint32_t value : {static_cast<std::uint32_t>(8 + rest.size()), code})
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> shift));
  for (const char c : rest) out.push_back(static_cast<std::byte>(c));
  return out;
}

TEST(FeedStartup, ReadsWhoAsksAndForWhat) {
  using namespace std::string_view_literals;
  const auto startup =
      parse_startup(packet(196608, "user\0me\0replication\0true\0application_name\0caf\xc3\xa9\0\0"sv));
  ASSERT_TRUE(startup.has_value());
  EXPECT_EQ(startup->user, "me");
  EXPECT_EQ(startup->replication, "true");
  EXPECT_EQ(startup->application_name, "caf??");
  EXPECT_EQ(startup->minor, 0u);
}

TEST(FeedStartup, RemembersWhatANewerClientWantsBeyondUs) {
  using namespace std::string_view_literals;
  const auto startup = parse_startup(packet(196610, "_pq_.new\0yes\0\0"sv));
  ASSERT_TRUE(startup.has_value());
  EXPECT_EQ(startup->minor, 2u);
  EXPECT_EQ(startup->unknown_options, std::vector<std::string>{"_pq_.new"});
}

TEST(FeedStartup, KnowsRequestsForEncryptionAndCancellation) {
  EXPECT_EQ(parse_startup(packet(80877103, ""))->kind, FeedStartup::Kind::kEncryption);
  EXPECT_EQ(parse_startup(packet(80877104, ""))->kind, FeedStartup::Kind::kEncryption);
  EXPECT_EQ(parse_startup(packet(80877102, "12345678"))->kind, FeedStartup::Kind::kCancel);
}

TEST(FeedStartup, RefusesOtherProtocolsAndBrokenLists) {
  using namespace std::string_view_literals;
  EXPECT_EQ(parse_startup(packet(2 << 16, "\0"sv)).error().code, "0A000");
  for (const std::string_view broken : {""sv, "user"sv, "user\0"sv, "user\0me"sv, "user\0me\0"sv, "user\0me\0\0x"sv})
    EXPECT_EQ(parse_startup(packet(196608, broken)).error().code, "08P01") << broken;
}

}  // namespace
}  // namespace slipstream::postgres
