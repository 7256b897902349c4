#include "app/standby_minder.h"

#include <fmt/format.h>
#include <signal.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/time.h"
#include "postgres/sql_session.h"

namespace slipstream::app {

// PostgreSQL has no function for this: pg_terminate_backend() does not know auxiliary processes.
std::expected<void, Error> end_walreceiver(std::int64_t pid) {
  std::string command;
  std::getline(std::ifstream(fmt::format("/proc/{}/cmdline", pid)), command, '\0');
  if (command.find("walreceiver") == std::string::npos)
    return std::unexpected(Error{
        ExitCode::kDatabase, fmt::format("process {} of this host is no walreceiver: '{}'", pid, command),
        "replica.standby_conninfo", "it must lead to the standby on this host, in the same container as the daemon"});
  if (::kill(static_cast<pid_t>(pid), SIGTERM) != 0)
    return std::unexpected(Error{ExitCode::kDatabase,
                                 fmt::format("the walreceiver {} cannot be ended: {}", pid, std::strerror(errno)),
                                 "replica.standby_conninfo", "run the daemon as the user that runs the standby"});
  return {};
}

std::optional<std::string> StandbyMinder::look(bool away, std::chrono::steady_clock::time_point now) {
  if (!away) {
    away_since_.reset();
    said_.clear();
    return std::nullopt;
  }
  if (!away_since_) away_since_ = now;
  if (now - *away_since_ < options_.patience) return std::nullopt;
  away_since_ = now;
  return bring_back();
}

std::optional<std::string> StandbyMinder::bring_back() {
  const auto say = [this](const std::string& problem) -> std::optional<std::string> {
    if (problem == said_) return std::nullopt;
    return said_ = problem;
  };
  auto session = postgres::SqlSession::connect(options_.standby_conninfo, "slipstream_standby", {-1, seconds(5)});
  if (!session) return say("the standby cannot be asked where it streams from: " + session.error().what);
  const auto rows = session->query(
      "SELECT pid, sender_host, sender_port FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'");
  if (!rows) return say("the standby cannot be asked where it streams from: " + rows.error().what);
  if (rows->empty()) return std::nullopt;  // On its way.
  const postgres::Row& receiver = rows->front();
  const std::string host = receiver[1].value_or(""), port = receiver[2].value_or("");
  if (host.empty() || (host == options_.feed_host && port == std::to_string(options_.feed_port))) return std::nullopt;
  if (auto ended = end_walreceiver(std::atoll(receiver[0].value_or("0").c_str())); !ended)
    return say(fmt::format("the standby streams from {} port {} instead of our feed, and stays there: {}", host, port,
                           ended.error().what));
  said_.clear();
  return fmt::format("the standby streamed from {} port {}, its fallback: brought back to our feed", host, port);
}

}  // namespace slipstream::app
