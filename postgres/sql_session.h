#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"
#include "postgres/connection.h"

namespace slipstream::postgres {

using Row = std::vector<std::optional<std::string>>;

// An ordinary connection for questions and checks. Waits as long as its patience lasts; for slow threads. Errors are
// kDatabase, with what to do, and never hold a password.
class SqlSession {
 public:
  static std::expected<SqlSession, Error> connect(const std::string& conninfo, const std::string& application_name,
                                                  Patience patience = {});

  std::expected<std::vector<Row>, Error> query(const std::string& sql);
  std::expected<std::string, Error> value(const std::string& sql);  // The first column of the only row; "" for NULL.
  bool shutting_down() const {
    return shutting_down_;
  }  // The last failure was PostgreSQL's own stop (57P01, 57P02, 57P03).
  // Until the server has said something, for at most `limit`.
  Connection::Wait wait_for_input(Duration limit) const { return connection_.wait_for_input(limit); }

 private:
  explicit SqlSession(Connection connection) : connection_(std::move(connection)) {}
  Connection connection_;
  bool shutting_down_ = false;
};

// What must be known of a primary before anything is done with it.
struct PrimaryFacts {
  std::uint32_t server_version_num = 0;
  SystemId system;
  TimelineId timeline;
  ByteCount segment_size;
  std::string data_directory;
};

// Why a server of this version is not served: no WAL of it is among the tests. (server_version_num)
std::optional<Error> objection_to_version(std::uint32_t server_version_num);

// Connects and checks everything that would make replication fail or lose commits: version, recovery, wal_level,
// walsenders, fsync, slot retention, the role's rights. The error names the setting and the command that mends it.
std::expected<PrimaryFacts, Error> check_primary(SqlSession& session);

// The slot that keeps WAL for a replica from its init-standby until it streams for the first time: the daemon's own
// slot knows nothing of it before. Characters that no slot's name may have become '_'.
std::string joining_slot(const std::string& slot, const std::string& replica);

// Makes the physical slot (reserving WAL at once) unless it exists; returns its restart position.
std::expected<Lsn, Error> ensure_slot(SqlSession& session, const std::string& slot);

}  // namespace slipstream::postgres
