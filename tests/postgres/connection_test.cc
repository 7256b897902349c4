#include "postgres/connection.h"

#include <gtest/gtest.h>

#include "postgres/sql_session.h"

namespace slipstream::postgres {
namespace {

TEST(ConnectionError, SaysWhatToDo) {
  EXPECT_NE(connection_error("FATAL:  password authentication failed for user \"x\"", "").remedy.find("password"),
            std::string::npos);
  EXPECT_NE(connection_error("FATAL:  number of requested standby connections exceeds max_wal_senders", "")
                .remedy.find("max_wal_senders"),
            std::string::npos);
  EXPECT_NE(connection_error("FATAL:  no pg_hba.conf entry for replication connection from host", "")
                .remedy.find("pg_hba.conf"),
            std::string::npos);
}

TEST(Conninfo, IsShownWithoutItsPassword) {
  EXPECT_EQ(describe_conninfo("host=h password='s e' port=1 dbname=d user=u").value(),
            "PostgreSQL (user=u dbname=d host=h port=1)");
  EXPECT_EQ(describe_conninfo("postgresql://u:secret@h:1/d?sslpassword=secret").value(),
            "PostgreSQL (user=u dbname=d host=h port=1)");
  EXPECT_EQ(describe_conninfo("postgres:///d?host=/run&password=secret").value(), "PostgreSQL (dbname=d host=/run)");
  EXPECT_EQ(describe_conninfo("d").value(), "PostgreSQL (dbname=d)");
  EXPECT_EQ(describe_conninfo("").value(), "PostgreSQL (libpq's defaults)");
}

TEST(Conninfo, NeverLeaksItsPasswordHoweverItIsMalformed) {
  for (const char* conninfo : {"host=/nowhere password=hush", "postgresql://u:hush@127.0.0.1:1/d",
                               "postgresql:///d?host=/nowhere&password=hush", "host=h password=two hush",
                               "password='hush", "postgresql://u:hu%sh@h/d", "postgresql://u:hush@h/d?nonsense=hush",
                               "postgresql://u:a@hush@h/d", "postgresql://u:hush/b@h/d", "postgresql://u:1/hush@h/d",
                               "postgresql://[hush", "postgresql://u:pa@127.0.0.1:hush/d", "nonsense=hush"}) {
    const auto session = SqlSession::connect(conninfo, "test");
    ASSERT_FALSE(session.has_value()) << conninfo;
    EXPECT_EQ(session.error().message().find("hush"), std::string::npos)
        << conninfo << ": " << session.error().message();
    EXPECT_EQ(session.error().message().find("hu%sh"), std::string::npos) << session.error().message();
    EXPECT_EQ(session.error().code, ExitCode::kDatabase);
    EXPECT_FALSE(session.error().remedy.empty());
  }
}

}  // namespace
}  // namespace slipstream::postgres
