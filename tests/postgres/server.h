#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/lsn.h"

// A real PostgreSQL for tests: its programs, and servers in directories of their own, spoken to over unix sockets
// alone.
namespace slipstream::postgres::real {

std::filesystem::path program(const std::string& name);  // In PG_BIN, or where Debian has version 15.
std::string database_user();                             // PostgreSQL refuses to run as root.
bool available();                                        // Else a test skips, with kMissing.
constexpr const char* kMissing =
    "PostgreSQL's programs are not there (PG_BIN names another place), or no user postgres";

struct Outcome {
  int status = -1;  // -1: it did not exit by itself.
  std::string output;
};

// Runs a program to its end, for at most a minute, as `user` when we are root.
Outcome run(const std::vector<std::string>& arguments, const std::string& user = database_user());
void must(const std::vector<std::string>& arguments);  // Throws unless it exits with 0.
void give_to_database_user(const std::filesystem::path& path);

// A data directory and, between start() and its end, a server whose socket lies beside it. Everything it starts is
// killed by its own pid.
class Server {
 public:
  using Settings = std::map<std::string, std::string>;
  Server(std::filesystem::path directory, int port) : directory_(std::move(directory)), port_(port) {}
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void initialise();  // Segments of 1 MiB; trust; no syncing.
  void configure(const Settings& settings) const;
  void set(const std::string& setting, const std::string& value) const;  // On the running server, at once.
  void copy_to(const std::filesystem::path& other) const;
  void start();                       // Until it answers.
  void begin_stop(int signal) const;  // SIGINT: a fast stop.
  bool stopped_within(std::chrono::milliseconds limit);
  void stop();           // Fast; must succeed within 20 s.
  void suspend() const;  // It and all its children.
  void resume() const;

  std::string sql(const std::string& text) const;  // The first value; throws what went wrong.
  Lsn flushed() const;
  std::string log() const;
  std::string conninfo(const std::string& more = "") const;
  std::filesystem::path wal() const { return directory_ / "pg_wal"; }
  const std::filesystem::path& directory() const { return directory_; }
  int port() const { return port_; }

 private:
  std::vector<pid_t> processes() const;

  std::filesystem::path directory_;
  int port_;
  pid_t pid_ = -1;
};

}  // namespace slipstream::postgres::real
