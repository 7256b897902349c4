#include "postgres/wire.h"

#include <gtest/gtest.h>

#include "postgres/sql_session.h"

namespace slipstream::postgres {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

TEST(Wire, EncodesAStandbysStatusAsPostgresqlReadsIt) {
  const auto message = encode(StandbyStatus{Lsn{1}, Lsn{2}, Lsn{3}, 4, true});
  ASSERT_EQ(message.size(), 34u);
  const auto decoded = decode_standby_status(message);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->write, Lsn{1});
  EXPECT_EQ(decoded->flush, Lsn{2});
  EXPECT_EQ(decoded->apply, Lsn{3});
  EXPECT_TRUE(decoded->reply_requested);
  EXPECT_EQ(message[8], std::byte{1}) << "big-endian";
}

TEST(Wire, RefusesTruncatedAndForeignMessages) {
  const auto message = encode(StandbyStatus{});
  for (std::size_t length = 0; length < message.size(); ++length) EXPECT_FALSE(decode_standby_status(std::span(message).first(length))) << length;
  EXPECT_FALSE(decode_keepalive(message));
  EXPECT_FALSE(decode_xlog_data(bytes_of({'w', 0, 0})));
  std::vector<std::byte> wraps(26, std::byte{0xff});
  wraps[0] = std::byte{'w'};
  EXPECT_FALSE(decode_xlog_data(wraps)) << "a start that wraps with its payload";
}

TEST(SyncNames, SayWhetherEverySetContainsUs) {
  for (const char* names : {"slipstream", "\"slipstream\"", "SLIPSTREAM", "FIRST 1 (slipstream)", "ANY 1 (slipstream)", "1 (slipstream)", "ANY 2 (slipstream, other)", "2 (slipstream, other)"})
    EXPECT_TRUE(names_always_contain(names, "slipstream")) << names;
  for (const char* names : {"", "*", "other", "slipstream, other", "ANY 1 (slipstream, other)", "FIRST 1 (slipstream, other)", "ANY 2 (slipstream, x, y)", "ANY 1 (*)", "slipstream2"})
    EXPECT_FALSE(names_always_contain(names, "slipstream")) << names;
}

TEST(ConnectionError, SaysWhatToDo) {
  EXPECT_NE(connection_error("FATAL:  password authentication failed for user \"x\"", "").remedy.find("password"), std::string::npos);
  EXPECT_NE(connection_error("FATAL:  number of requested standby connections exceeds max_wal_senders", "").remedy.find("max_wal_senders"), std::string::npos);
  EXPECT_NE(connection_error("FATAL:  no pg_hba.conf entry for replication connection from host", "").remedy.find("pg_hba.conf"), std::string::npos);
}

}  // namespace
}  // namespace slipstream::postgres
