#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"

struct pg_conn;
struct pg_result;

namespace slipstream::postgres {

// libpq's message as an Error with a remedy for what it is about.
Error connection_error(const std::string& message, const std::string& where);

// What may be shown of a connection string: "PostgreSQL (host=… port=… dbname=… user=…)". An error, without any piece
// of it, where libpq would not understand it, or would take a part of a password for something else and say it aloud.
std::expected<std::string, Error> describe_conninfo(const std::string& conninfo);

// How long a connection's waits may last.
struct Patience {
  int stop_event = -1;  // An eventfd that ends every wait as soon as it is readable.
  Duration answer{};    // For the answer to a command; 0: as long as it takes.
};

// What the server answered to one command.
class Result {
 public:
  explicit Result(pg_result* result) : result_(result, &clear) {}
  bool ok() const;         // Rows, or done without any.
  bool streaming() const;  // CopyBoth has begun.
  std::size_t rows() const;
  std::size_t columns() const;
  std::optional<std::string> cell(std::size_t row, std::size_t column) const;  // Nothing: NULL.
  std::string sqlstate() const;

 private:
  static void clear(pg_result* result);
  std::unique_ptr<pg_result, void (*)(pg_result*)> result_;
};

// A connection by libpq that never blocks for longer than its patience; 5 s to be made. (Looking up a host's name is
// the resolver's time.) Threading: one thread.
class Connection {
 public:
  using Settings = std::vector<std::pair<const char*, std::string>>;
  enum class Wait : std::uint8_t { kReady, kTimeout, kStopped };

  // `settings` prevail over the connection string.
  static std::expected<Connection, Error> open(const std::string& conninfo, const Settings& settings,
                                               Patience patience);

  // The server's answer, which may be an error: then message() has it.
  std::expected<Result, Error> execute(const std::string& command);
  std::string message() const;
  // Until the server has said something, for at most `limit`.
  Wait wait_for_input(Duration limit) const;

  pg_conn* get() const { return connection_.get(); }
  const std::string& where() const { return where_; }

 private:
  Connection(pg_conn* connection, std::string where, Patience patience)
      : connection_(connection, &finish), where_(std::move(where)), patience_(patience) {}
  static void finish(pg_conn* connection);
  std::expected<void, Error> finish_opening();
  std::optional<Error> wait_for_answer();

  std::unique_ptr<pg_conn, void (*)(pg_conn*)> connection_;
  std::string where_;
  Patience patience_;
};

}  // namespace slipstream::postgres
