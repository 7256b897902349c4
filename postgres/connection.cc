#include "postgres/connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace slipstream::postgres {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kConnectLimit{5};
constexpr auto kForever = Clock::time_point::max();

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

Connection::Wait wait_on(int socket, short events, int stop_event, Clock::time_point until) {
  while (true) {
    const auto left = until - Clock::now();
    const bool limited = until != kForever;
    if (limited && left <= Clock::duration::zero()) return Connection::Wait::kTimeout;
    pollfd waits[2] = {{stop_event, POLLIN, 0}, {socket, events, 0}};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int ready = ::poll(waits, 2, limited ? static_cast<int>(std::min<std::int64_t>(ms, 1'000'000)) : -1);
    if (ready > 0) return waits[0].revents != 0 ? Connection::Wait::kStopped : Connection::Wait::kReady;
  }
}

Error given_up(Connection::Wait why, const std::string& what, const std::string& where) {
  if (why == Connection::Wait::kStopped) return {ExitCode::kDatabase, "stopped while it " + what, where, ""};
  return {ExitCode::kDatabase, "the server does not answer: nothing came while it " + what, where,
          "is PostgreSQL alive there, and the way to it?"};
}

std::unexpected<Error> unclear(std::string what) {
  return std::unexpected(Error{ExitCode::kDatabase, std::move(what), "conninfo (not shown, as it may hold a password)",
                               "quote values with spaces: password='a b'; in a URI write %40 for @, %2F for /, %3A for "
                               ": and %25 for %; or better use a passfile (~/.pgpass)"});
}

bool is_uri(const std::string& conninfo) {
  return conninfo.starts_with("postgresql://") || conninfo.starts_with("postgres://");
}

// A password with @ or / that were not written as %40 and %2F reaches into the host, the port or the database's name.
bool plausible(const std::string& key, const std::string& value, bool uri) {
  if (key == "host" || key == "hostaddr") return value.find('@', 1) == std::string::npos;
  if (key == "port") return value.find_first_not_of("0123456789,") == std::string::npos;
  return !uri || value.find('@') == std::string::npos;
}

}  // namespace

Error connection_error(const std::string& message, const std::string& where) {
  const auto says = [&](std::string_view part) { return message.find(part) != std::string::npos; };
  std::string remedy = "check conninfo and the server's log";
  if (says("password authentication failed") || says("no password supplied"))
    remedy = "put the right password into conninfo, or better a passfile (~/.pgpass)";
  else if (says("no pg_hba.conf entry for replication"))
    remedy = "add to pg_hba.conf:  local replication ROLE peer  (or a host line), then reload";
  else if (says("no pg_hba.conf entry"))
    remedy = "add a line for this role and address to pg_hba.conf, then reload";
  else if (says("must be superuser or replication role") || says("permission denied to start WAL sender"))
    remedy = "give the role the right:  ALTER ROLE name REPLICATION";
  else if (says("WAL senders") || says("max_wal_senders"))
    remedy = "raise max_wal_senders and restart PostgreSQL, or stop another walsender (pg_stat_replication lists them)";
  else if (says("wal_level"))
    remedy = "ALTER SYSTEM SET wal_level = replica, then restart PostgreSQL";
  else if (says("role \"") && says("does not exist"))
    remedy = "create the role:  CREATE ROLE name LOGIN REPLICATION";
  else if (says("No such file") || says("Connection refused") || says("could not translate"))
    remedy = "is PostgreSQL running there? check host and port in conninfo";
  else if (says("pg_read_all_settings") || says("permission denied for function"))
    remedy = "let the role look at settings:  GRANT pg_monitor TO name";
  else if (says("starting up") || says("shutting down"))
    remedy = "PostgreSQL is starting or stopping: it will be tried again";
  return {ExitCode::kDatabase, trimmed(message), where, remedy};
}

std::expected<std::string, Error> describe_conninfo(const std::string& conninfo) {
  // Neither a URI nor KEY=VALUE: libpq takes it for a database's name.
  if (!is_uri(conninfo) && conninfo.find('=') == std::string::npos)
    return "PostgreSQL (" + (conninfo.empty() ? "libpq's defaults" : "dbname=" + conninfo) + ")";
  char* ignored = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(conninfo.c_str(), &ignored), &PQconninfoFree);
  PQfreemem(ignored);
  if (!options) return unclear("this is no connection string that libpq understands");
  std::string shown;
  for (const PQconninfoOption* option = options.get(); option->keyword; ++option) {
    const std::string key = option->keyword, value = option->val ? option->val : "";
    if (value.empty() || (key != "host" && key != "hostaddr" && key != "port" && key != "dbname" && key != "user"))
      continue;
    if (!plausible(key, value, is_uri(conninfo)))
      return unclear("the " + key + " in this connection string has characters that none has: a part of a password?");
    shown += (shown.empty() ? "" : " ") + key + "=" + value;
  }
  return "PostgreSQL (" + (shown.empty() ? "libpq's defaults" : shown) + ")";
}

// ---- Result

void Result::clear(pg_result* result) { PQclear(result); }
bool Result::ok() const {
  return PQresultStatus(result_.get()) == PGRES_TUPLES_OK || PQresultStatus(result_.get()) == PGRES_COMMAND_OK;
}
bool Result::streaming() const { return PQresultStatus(result_.get()) == PGRES_COPY_BOTH; }
std::size_t Result::rows() const { return static_cast<std::size_t>(PQntuples(result_.get())); }
std::size_t Result::columns() const { return static_cast<std::size_t>(PQnfields(result_.get())); }

std::optional<std::string> Result::cell(std::size_t row, std::size_t column) const {
  const int r = static_cast<int>(row), c = static_cast<int>(column);
  if (PQgetisnull(result_.get(), r, c)) return std::nullopt;
  return std::string(PQgetvalue(result_.get(), r, c), static_cast<std::size_t>(PQgetlength(result_.get(), r, c)));
}

std::string Result::sqlstate() const {
  const char* state = PQresultErrorField(result_.get(), PG_DIAG_SQLSTATE);
  return state ? state : "";
}

// ---- Connection

void Connection::finish(pg_conn* connection) { PQfinish(connection); }
std::string Connection::message() const { return PQerrorMessage(get()); }

std::expected<Connection, Error> Connection::open(const std::string& conninfo, const Settings& settings,
                                                  Patience patience) {
  auto where = describe_conninfo(conninfo);
  if (!where) return std::unexpected(where.error());
  std::vector<const char*> keys{"dbname"}, values{conninfo.c_str()};
  for (const auto& [key, value] : settings) keys.push_back(key), values.push_back(value.c_str());
  keys.push_back(nullptr), values.push_back(nullptr);
  Connection connection(PQconnectStartParams(keys.data(), values.data(), 1), *where, patience);
  if (auto opened = connection.finish_opening(); !opened) return std::unexpected(opened.error());
  return connection;
}

std::expected<void, Error> Connection::finish_opening() {
  const auto until = Clock::now() + kConnectLimit;
  // Notices are the server's log's.
  PQsetNoticeProcessor(get(), [](void*, const char*) {}, nullptr);
  for (auto state = PGRES_POLLING_WRITING; state != PGRES_POLLING_OK; state = PQconnectPoll(get())) {
    if (PQstatus(get()) == CONNECTION_BAD || state == PGRES_POLLING_FAILED)
      return std::unexpected(connection_error(message(), where_));
    const Wait wait =
        wait_on(PQsocket(get()), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, patience_.stop_event, until);
    if (wait != Wait::kReady) return std::unexpected(given_up(wait, "connected", where_));
  }
  // Even the farewell of PQfinish() would wait for a server that takes nothing.
  PQsetnonblocking(get(), 1);
  return {};
}

std::expected<Result, Error> Connection::execute(const std::string& command) {
  if (PQsendQuery(get(), command.c_str()) == 0) return std::unexpected(connection_error(message(), where_));
  std::optional<Result> answer;
  while (true) {
    if (auto problem = wait_for_answer()) return std::unexpected(*problem);
    pg_result* next = PQgetResult(get());
    if (!next) break;
    if (Result result(next); !answer || answer->ok()) answer.emplace(std::move(result));
    if (answer->streaming() || PQstatus(get()) == CONNECTION_BAD) break;
  }
  if (!answer) return std::unexpected(connection_error(message(), where_));
  return std::move(*answer);
}

// Until PQgetResult() has something to say at once.
std::optional<Error> Connection::wait_for_answer() {
  const auto until = patience_.answer.ns == 0 ? kForever : Clock::now() + std::chrono::nanoseconds(patience_.answer.ns);
  while (PQisBusy(get())) {
    // A failed write is no answer yet: the server's last words may still be there to be read.
    const bool unsent = PQflush(get()) > 0;
    const Wait wait =
        wait_on(PQsocket(get()), static_cast<short>(POLLIN | (unsent ? POLLOUT : 0)), patience_.stop_event, until);
    if (wait != Wait::kReady) return given_up(wait, "answered", where_);
    if (PQconsumeInput(get()) == 0) return connection_error(message(), where_);
  }
  return std::nullopt;
}

Connection::Wait Connection::wait_for_input(Duration limit) const {
  return wait_on(PQsocket(get()), POLLIN, patience_.stop_event, Clock::now() + std::chrono::nanoseconds(limit.ns));
}

}  // namespace slipstream::postgres
