#include "postgres/sql_session.h"

#include <algorithm>

#include <cctype>
#include <cstdint>
#include <cstdlib>

#include "wal/scanner.h"

namespace slipstream::postgres {
namespace {

Error database_error(std::string what, std::string where, std::string remedy) {
  return {ExitCode::kDatabase, std::move(what), std::move(where), std::move(remedy)};
}

}  // namespace

std::expected<SqlSession, Error> SqlSession::connect(const std::string& conninfo, const std::string& application_name,
                                                     Patience patience) {
  auto connection = Connection::open(conninfo, {{"fallback_application_name", application_name}}, patience);
  if (!connection) return std::unexpected(connection.error());
  SqlSession session(std::move(*connection));
  // Our questions must never wait for a quorum that they help to make.
  if (auto set = session.query("SET synchronous_commit = local; SET search_path = ''"); !set)
    return std::unexpected(set.error());
  return session;
}

std::expected<std::vector<Row>, Error> SqlSession::query(const std::string& sql) {
  const auto result = connection_.execute(sql);
  if (!result) return std::unexpected(result.error());
  if (!result->ok()) {
    shutting_down_ = result->sqlstate().starts_with("57P0");
    return std::unexpected(connection_error(connection_.message(), connection_.where()));
  }
  std::vector<Row> rows(result->rows());
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < result->columns(); ++c) rows[r].push_back(result->cell(r, c));
  return rows;
}

std::expected<std::string, Error> SqlSession::value(const std::string& sql) {
  auto rows = query(sql);
  if (!rows) return std::unexpected(rows.error());
  if (rows->empty() || rows->front().empty())
    return std::unexpected(database_error("no answer to: " + sql, connection_.where(), ""));
  return rows->front().front().value_or("");
}

std::optional<Error> objection_to_version(std::uint32_t server_version_num) {
  const std::uint32_t major = server_version_num / 10000;
  if (std::ranges::count(wal::kSupportedVersions, major) > 0) return std::nullopt;
  std::string supported;
  for (const std::uint32_t each : wal::kSupportedVersions)
    supported += (supported.empty() ? "" : ", ") + std::to_string(each);
  return database_error("PostgreSQL " + std::to_string(major) + " is not supported: its WAL was never tested", "",
                        "use version " + supported + "; or add this one: tests/golden/wal/make " +
                            std::to_string(major) + ", kSupportedVersions in wal/scanner.h, and run scripts/test");
}

std::expected<PrimaryFacts, Error> check_primary(SqlSession& session) {
  const std::string where = "the primary's settings";
  const auto right =
      session.value("SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user");
  if (!right) return std::unexpected(right.error());
  if (*right != "t")
    return std::unexpected(database_error("the role has no REPLICATION right", where,
                                          "ALTER ROLE name REPLICATION; GRANT pg_monitor TO name"));
  const auto rows = session.query(
      "SELECT current_setting('server_version_num'), pg_catalog.pg_is_in_recovery(), current_setting('wal_level'), "
      "current_setting('max_wal_senders'), current_setting('fsync'),"
      " current_setting('max_slot_wal_keep_size', true), current_setting('data_directory', true), "
      "pg_catalog.pg_size_bytes(current_setting('wal_segment_size')),"
      " (SELECT system_identifier FROM pg_catalog.pg_control_system()), CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
      "'' ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,"
      " current_setting('debug_io_direct', true)");
  if (!rows) return std::unexpected(rows.error());
  const Row& row = rows->front();
  const auto text = [&](std::size_t i) { return row[i].value_or(""); };
  const auto bad = [&](std::string what, std::string remedy) {
    return std::unexpected(database_error(std::move(what), where, std::move(remedy)));
  };
  PrimaryFacts facts;
  facts.server_version_num = static_cast<std::uint32_t>(std::strtoul(text(0).c_str(), nullptr, 10));
  if (auto objection = objection_to_version(facts.server_version_num)) {
    objection->where = where;
    return std::unexpected(*objection);
  }
  if (text(1) == "t")
    return bad("this server is in recovery: it is a standby, not a primary", "point conninfo at the primary");
  if (text(2) == "minimal")
    return bad("wal_level is minimal", "ALTER SYSTEM SET wal_level = replica, then restart PostgreSQL");
  if (text(3) == "0")
    return bad("max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders = 10, then restart PostgreSQL");
  if (text(4) == "off")
    return bad("fsync is off: what PostgreSQL calls flushed can be lost", "ALTER SYSTEM SET fsync = on, then reload");
  if (text(5) == "-1")
    return bad("max_slot_wal_keep_size is -1: a stopped daemon would let WAL fill the disk",
               "ALTER SYSTEM SET max_slot_wal_keep_size = '8GB', then SELECT pg_reload_conf()");
  if (text(10).find("wal") != std::string::npos)
    return bad("debug_io_direct contains wal: files then lag behind what is flushed",
               "ALTER SYSTEM RESET debug_io_direct, then restart PostgreSQL");
  facts.data_directory = text(6);
  facts.segment_size.value = std::strtoull(text(7).c_str(), nullptr, 10);
  facts.system.value = std::strtoull(text(8).c_str(), nullptr, 10);
  facts.timeline.value =
      static_cast<std::uint32_t>(std::strtoul(text(9).c_str(), nullptr, 16));  // The last checkpoint's may be older.
  return facts;
}

std::string joining_slot(const std::string& slot, const std::string& replica) {
  constexpr std::size_t kNameBytesMax = 63;
  std::string out = slot + "_joining_" + replica;
  for (char& c : out) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) c = '_';
  }
  return out.substr(0, kNameBytesMax);
}

std::expected<Lsn, Error> ensure_slot(SqlSession& session, const std::string& slot) {
  const std::string restart =
      "SELECT restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = '" + slot + "'";
  const auto rows = session.query(restart);
  if (!rows) return std::unexpected(rows.error());
  if (!rows->empty() && rows->front()[0])
    if (const auto kept = parse_lsn(*rows->front()[0])) return *kept;
  // There is none; or it was invalidated, because it kept more than max_slot_wal_keep_size, and is of no use any more.
  if (!rows->empty()) (void)session.query("SELECT pg_catalog.pg_drop_replication_slot('" + slot + "')");
  if (auto made = session.query("SELECT pg_catalog.pg_create_physical_replication_slot('" + slot + "', true)"); !made)
    return std::unexpected(made.error());
  const auto position = session.value(restart);
  if (!position) return std::unexpected(position.error());
  const auto lsn = parse_lsn(*position);
  if (!lsn)
    return std::unexpected(database_error("slot \"" + slot + "\" keeps no WAL", "pg_replication_slots",
                                          "drop it: SELECT pg_drop_replication_slot('" + slot + "')"));
  return *lsn;
}

}  // namespace slipstream::postgres
