#include "postgres/sql_session.h"

#include <libpq-fe.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace slipstream::postgres {
namespace {

Error database_error(std::string what, std::string where, std::string remedy) { return {ExitCode::kDatabase, std::move(what), std::move(where), std::move(remedy)}; }

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

Error connection_error(const std::string& message, const std::string& where) {
  const auto says = [&](std::string_view part) { return message.find(part) != std::string::npos; };
  std::string remedy = "check conninfo and the server's log";
  if (says("password authentication failed") || says("no password supplied")) remedy = "put the right password into conninfo, or better a passfile (~/.pgpass)";
  else if (says("no pg_hba.conf entry for replication")) remedy = "add to pg_hba.conf:  local replication ROLE peer  (or a host line), then reload";
  else if (says("no pg_hba.conf entry")) remedy = "add a line for this role and address to pg_hba.conf, then reload";
  else if (says("must be superuser or replication role") || says("permission denied to start WAL sender")) remedy = "give the role the right:  ALTER ROLE name REPLICATION";
  else if (says("WAL senders") || says("max_wal_senders")) remedy = "raise max_wal_senders and restart PostgreSQL, or stop another walsender";
  else if (says("wal_level")) remedy = "ALTER SYSTEM SET wal_level = replica, then restart PostgreSQL";
  else if (says("role \"") && says("does not exist")) remedy = "create the role:  CREATE ROLE name LOGIN REPLICATION";
  else if (says("No such file") || says("Connection refused") || says("could not translate")) remedy = "is PostgreSQL running there? check host and port in conninfo";
  else if (says("pg_read_all_settings") || says("permission denied for function")) remedy = "let the role look at settings:  GRANT pg_monitor TO name";
  else if (says("starting up") || says("shutting down")) remedy = "PostgreSQL is starting or stopping: it will be tried again";
  return database_error(trimmed(message), where, remedy);
}

struct SqlSession::Impl {
  PGconn* connection = nullptr;
  std::string where;
  bool shutting_down = false;
  ~Impl() { PQfinish(connection); }
};

SqlSession::SqlSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SqlSession::SqlSession(SqlSession&&) noexcept = default;
SqlSession& SqlSession::operator=(SqlSession&&) noexcept = default;
SqlSession::~SqlSession() = default;

std::expected<SqlSession, Error> SqlSession::connect(const std::string& conninfo, const std::string& application_name) {
  auto impl = std::make_unique<Impl>();
  const char* keys[] = {"dbname", "fallback_application_name", "connect_timeout", nullptr};
  const char* values[] = {conninfo.c_str(), application_name.c_str(), "5", nullptr};
  impl->connection = PQconnectdbParams(keys, values, 1);
  impl->where = "PostgreSQL (" + conninfo.substr(0, conninfo.find("password")) + ")";
  if (PQstatus(impl->connection) != CONNECTION_OK) return std::unexpected(connection_error(PQerrorMessage(impl->connection), impl->where));
  SqlSession session(std::move(impl));
  // Our questions must never wait for a quorum that they help to make.
  if (auto set = session.query("SET synchronous_commit = local; SET search_path = ''"); !set) return std::unexpected(set.error());
  return session;
}

std::expected<std::vector<Row>, Error> SqlSession::query(const std::string& sql) {
  PGresult* result = PQexec(impl_->connection, sql.c_str());
  const ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    impl_->shutting_down = state && std::strncmp(state, "57P0", 4) == 0;
    const std::string message = PQerrorMessage(impl_->connection);
    PQclear(result);
    return std::unexpected(connection_error(message, impl_->where));
  }
  std::vector<Row> rows(static_cast<std::size_t>(PQntuples(result)));
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (int c = 0; c < PQnfields(result); ++c)
      rows[r].push_back(PQgetisnull(result, static_cast<int>(r), c) ? std::nullopt : std::optional<std::string>(PQgetvalue(result, static_cast<int>(r), c)));
  PQclear(result);
  return rows;
}

std::expected<std::string, Error> SqlSession::value(const std::string& sql) {
  auto rows = query(sql);
  if (!rows) return std::unexpected(rows.error());
  if (rows->empty() || rows->front().empty()) return std::unexpected(database_error("no answer to: " + sql, impl_->where, ""));
  return rows->front().front().value_or("");
}

bool SqlSession::shutting_down() const { return impl_->shutting_down; }
int SqlSession::socket() const { return PQsocket(impl_->connection); }

std::expected<PrimaryFacts, Error> check_primary(SqlSession& session) {
  const std::string where = "the primary's settings";
  const auto right = session.value("SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user");
  if (!right) return std::unexpected(right.error());
  if (*right != "t") return std::unexpected(database_error("the role has no REPLICATION right", where, "ALTER ROLE name REPLICATION; GRANT pg_monitor TO name"));
  const auto rows = session.query(
      "SELECT current_setting('server_version_num'), pg_catalog.pg_is_in_recovery(), current_setting('wal_level'), current_setting('max_wal_senders'), current_setting('fsync'),"
      " current_setting('max_slot_wal_keep_size', true), current_setting('data_directory', true), pg_catalog.pg_size_bytes(current_setting('wal_segment_size')),"
      " (SELECT system_identifier FROM pg_catalog.pg_control_system()), (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),"
      " current_setting('debug_io_direct', true)");
  if (!rows) return std::unexpected(rows.error());
  const Row& row = rows->front();
  const auto text = [&](std::size_t i) { return row[i].value_or(""); };
  const auto bad = [&](std::string what, std::string remedy) { return std::unexpected(database_error(std::move(what), where, std::move(remedy))); };
  PrimaryFacts facts;
  facts.server_version_num = static_cast<std::uint32_t>(std::strtoul(text(0).c_str(), nullptr, 10));
  const std::uint32_t major = facts.server_version_num / 10000, minor = facts.server_version_num % 10000;
  if (major < 13 || major > 18) return bad("PostgreSQL " + std::to_string(major) + " is not supported", "versions 13 to 18 are");
  if ((major == 13 && minor < 5) || (major == 14 && minor < 1)) return bad("this minor version can lose records at the end of a crash's WAL", "update to 13.5, 14.1 or later");
  if (text(1) == "t") return bad("this server is in recovery: it is a standby, not a primary", "point conninfo at the primary");
  if (text(2) == "minimal") return bad("wal_level is minimal", "ALTER SYSTEM SET wal_level = replica, then restart PostgreSQL");
  if (text(3) == "0") return bad("max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders = 10, then restart PostgreSQL");
  if (text(4) == "off") return bad("fsync is off: what PostgreSQL calls flushed can be lost", "ALTER SYSTEM SET fsync = on, then reload");
  if (text(5) == "-1")
    return bad("max_slot_wal_keep_size is -1: a stopped daemon would let WAL fill the disk", "ALTER SYSTEM SET max_slot_wal_keep_size = '8GB', then SELECT pg_reload_conf()");
  if (text(10).find("wal") != std::string::npos) return bad("debug_io_direct contains wal: files then lag behind what is flushed", "ALTER SYSTEM RESET debug_io_direct, then restart PostgreSQL");
  facts.data_directory = text(6);
  facts.segment_size.value = std::strtoull(text(7).c_str(), nullptr, 10);
  facts.system.value = std::strtoull(text(8).c_str(), nullptr, 10);
  facts.timeline.value = static_cast<std::uint32_t>(std::strtoul(text(9).c_str(), nullptr, 10));
  return facts;
}

std::expected<Lsn, Error> ensure_slot(SqlSession& session, const std::string& slot) {
  const std::string restart = "SELECT restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = '" + slot + "'";
  auto rows = session.query(restart);
  if (!rows) return std::unexpected(rows.error());
  if (rows->empty() || !rows->front()[0]) {
    if (!rows->empty()) (void)session.query("SELECT pg_catalog.pg_drop_replication_slot('" + slot + "')");
    if (auto made = session.query("SELECT pg_catalog.pg_create_physical_replication_slot('" + slot + "', true)"); !made) return std::unexpected(made.error());
  }
  const auto position = session.value(restart);
  if (!position) return std::unexpected(position.error());
  const auto lsn = parse_lsn(*position);
  if (!lsn) return std::unexpected(database_error("slot \"" + slot + "\" keeps no WAL", "pg_replication_slots", "drop it: SELECT pg_drop_replication_slot('" + slot + "')"));
  return *lsn;
}

bool names_always_contain(const std::string& names, const std::string& application_name) {
  // FIRST n (…), ANY n (…), n (…), or a list (n = 1). Without us at most `others` standbys can be synchronous: fewer than n leaves no set without us.
  std::size_t count = 1, others = 0, ours = 0;
  bool wildcard = false, number_next = false;
  std::string word;
  bool quoted = false, any_word = false;
  const auto lower = [](std::string text) {
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return text;
  };
  const bool counted = names.find('(') != std::string::npos;
  const auto end_word = [&](char delimiter) {
    if (!any_word) return;
    const std::string folded = lower(word);
    if (counted && delimiter == '(' && !quoted) count = std::strtoull(word.c_str(), nullptr, 10);
    else if (counted && number_next == false && !quoted && (folded == "first" || folded == "any") && others + ours == 0 && delimiter == ' ') number_next = true;
    else if (word == "*" && !quoted) wildcard = true;
    else if (counted && number_next && others + ours == 0 && delimiter == ' ' && word.find_first_not_of("0123456789") == std::string::npos) count = std::strtoull(word.c_str(), nullptr, 10);
    else if (counted && others + ours == 0 && !quoted && delimiter == ' ' && word.find_first_not_of("0123456789") == std::string::npos) count = std::strtoull(word.c_str(), nullptr, 10);
    else if (folded == lower(application_name)) ++ours;
    else ++others;
    word.clear();
    quoted = any_word = false;
  };
  for (std::size_t i = 0; i < names.size(); ++i) {
    const char c = names[i];
    if (c == '"') {
      const auto close = names.find('"', i + 1);
      word = names.substr(i + 1, close == std::string::npos ? close : close - i - 1);
      quoted = any_word = true;
      i = close == std::string::npos ? names.size() : close;
    } else if (c == ' ' || c == '\t' || c == '\n' || c == ',' || c == '(' || c == ')') {
      end_word(c == '(' || c == ')' || c == ',' ? c : ' ');
    } else {
      word += c;
      any_word = true;
    }
  }
  end_word(',');
  return ours > 0 && !wildcard && count > others;
}

}  // namespace slipstream::postgres
