#include "postgres/forced_flush.h"

#include <fmt/format.h>

#include "postgres/sql_session.h"

namespace slipstream::postgres {
namespace {

Error not_forced(std::string what, std::string remedy) {
  return {ExitCode::kDatabase, std::move(what), "SQL session that makes PostgreSQL flush its WAL", std::move(remedy)};
}

// A transactional message takes a transaction's number, so its commit writes a record and, other than that of a
// transaction that wrote nothing, flushes up to the end of it whatever the server's settings are; `local` waits for no
// replica, so this waits for none of what we would have to report. A standby refuses READ WRITE.
std::string flush_and_look(int walsender) {
  return fmt::format(
      "BEGIN READ WRITE; SET LOCAL synchronous_commit = local;"
      " SELECT pg_catalog.pg_logical_emit_message(true, 'slipstream', ''); COMMIT;"
      " SELECT pg_catalog.pg_current_wal_flush_lsn(), EXISTS (SELECT FROM pg_catalog.pg_stat_activity"
      " WHERE pid = {} AND backend_type = 'walsender')",
      walsender);
}

}  // namespace

std::expected<Lsn, Error> force_flush(const std::string& conninfo, const std::string& application_name, int walsender,
                                      Patience patience) {
  auto session = SqlSession::connect(conninfo, application_name, patience);
  if (!session) return std::unexpected(session.error());
  const auto rows = session->query(flush_and_look(walsender));
  if (!rows && rows.error().what.find("permission denied for function pg_logical_emit_message") != std::string::npos)
    return std::unexpected(not_forced(
        rows.error().what,
        "in the database of conninfo: GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO name; "
        "from version 17 on it is (boolean, text, text, boolean)"));
  if (!rows) return std::unexpected(rows.error());
  if (rows->size() != 1 || rows->front().size() != 2)
    return std::unexpected(not_forced("the server did not say how far it has flushed", "look at the server's log"));
  const auto& row = rows->front();
  if (row[1] != "t")
    return std::unexpected(not_forced("it reached another server than the replication connection did",
                                      "let conninfo name one server, without a pooler before it"));
  const auto flushed = parse_lsn(row[0].value_or(""));
  if (!flushed) return std::unexpected(not_forced("the server gave no flushed position", "look at the server's log"));
  return *flushed;
}

}  // namespace slipstream::postgres
