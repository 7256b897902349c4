#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/lsn.h"

namespace slipstream::postgres {

using Row = std::vector<std::optional<std::string>>;

// An ordinary connection for questions and checks. Waits; for slow threads. Errors are kDatabase, with what to do.
class SqlSession {
 public:
  static std::expected<SqlSession, Error> connect(const std::string& conninfo, const std::string& application_name);
  SqlSession(SqlSession&&) noexcept;
  SqlSession& operator=(SqlSession&&) noexcept;
  ~SqlSession();

  std::expected<std::vector<Row>, Error> query(const std::string& sql);
  std::expected<std::string, Error> value(const std::string& sql);  // The first column of the only row; "" for NULL.
  bool shutting_down() const;  // The last failure was PostgreSQL's own stop (57P01, 57P02, 57P03).
  int socket() const;

 private:
  struct Impl;
  explicit SqlSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What must be known of a primary before anything is done with it.
struct PrimaryFacts {
  std::uint32_t server_version_num = 0;
  SystemId system;
  TimelineId timeline;
  ByteCount segment_size;
  std::string data_directory;
};

// Connects and checks everything that would make replication fail or lose commits: version, recovery, wal_level, walsenders, fsync, slot retention, the role's rights.
// The error names the setting and the command that mends it.
std::expected<PrimaryFacts, Error> check_primary(SqlSession& session);

// Makes the physical slot (reserving WAL at once) unless it exists; returns its restart position.
std::expected<Lsn, Error> ensure_slot(SqlSession& session, const std::string& slot);

// libpq's message as an Error with a remedy for what it is about.
Error connection_error(const std::string& message, const std::string& where);

// Does every set of standbys that satisfies this synchronous_standby_names contain `application_name`? (safety rule R2) Conservative: false when unsure.
bool names_always_contain(const std::string& synchronous_standby_names, const std::string& application_name);

}  // namespace slipstream::postgres
