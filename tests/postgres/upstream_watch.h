#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "postgres/sql_session.h"
#include "postgres/upstream.h"
#include "tests/postgres/feed_place.h"
#include "tests/postgres/server.h"

namespace slipstream::postgres::real {

using feed_test::eventually;

// The data thread's side of a PostgresUpstream: takes its events and keeps them.
class Watch {
 public:
  explicit Watch(UpstreamOptions options) {
    options.wake = [] {};
    upstream_ = std::make_unique<PostgresUpstream>(std::move(options));
  }
  explicit Watch(const Server& server, const std::string& more = "", bool on_data_thread = true)
      : Watch(UpstreamOptions{server.conninfo(more), "slipstream", "slipstream", {}, {}, {}, on_data_thread}) {}

  PostgresUpstream& operator*() { return *upstream_; }
  PostgresUpstream* operator->() { return upstream_.get(); }

  void take() {
    for (node::UpstreamEvent event; upstream_->next_event(event);) {
      if (const auto* up = std::get_if<node::UpstreamConnected>(&event)) connected.push_back(*up), chunks.clear();
      if (const auto* chunk = std::get_if<node::UpstreamChunk>(&event)) chunks.push_back(*chunk), report_all();
      if (const auto* told = std::get_if<node::UpstreamSyncNames>(&event)) names = *told;
      if (std::holds_alternative<node::UpstreamLost>(event)) ++lost;
      if (std::holds_alternative<node::UpstreamStopping>(event)) ++stopping;
    }
  }
  // Until `done`, for at most 30 s.
  template <class Done>
  bool until(Done done) {
    return eventually([&] { return take(), done(); });
  }
  bool connects(std::size_t times = 1) {
    return until([&] { return connected.size() >= times && names.has_value(); });
  }
  Lsn end() const {
    return chunks.empty() ? connected.empty() ? Lsn{} : connected.back().stream_begin : chunks.back().range.end;
  }
  bool reaches(Lsn position) {
    return until([&] { return end() >= position; });
  }
  // For `limit`: events are taken, nothing else happens.
  void idle(std::chrono::milliseconds limit) {
    for (const auto end_of_it = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < end_of_it;
         std::this_thread::sleep_for(std::chrono::milliseconds(5)))
      take();
  }
  // The message of what is wrong once it holds `part`; else the last one.
  std::string problem_with(const std::string& part) {
    std::string last = "no problem";
    (void)until([&] {
      if (const auto problem = upstream_->problem()) last = problem->message();
      return last.find(part) != std::string::npos;
    });
    return last;
  }

  bool confirms_everything = false;  // Reports what was streamed, as a quorum that is always there would.
  std::vector<node::UpstreamConnected> connected;
  std::vector<node::UpstreamChunk> chunks;  // Of the last connection.
  std::optional<node::UpstreamSyncNames> names;
  int lost = 0, stopping = 0;

 private:
  void report_all() {
    if (confirms_everything) upstream_->report({end(), end(), end()});
  }
  std::unique_ptr<PostgresUpstream> upstream_;
};

// An INSERT under synchronous_commit = `level`, on a thread of its own.
class Commit {
 public:
  Commit(const Server& server, const std::string& level) : server_(server) {
    outcome_ = std::async(std::launch::async, [conninfo = server.conninfo(), level]() -> std::string {
      auto session = SqlSession::connect(conninfo, "commit");
      if (!session) return session.error().what;
      if (auto set = session->query("SET synchronous_commit = " + level); !set) return set.error().what;
      const auto done = session->query("INSERT INTO public.t VALUES (1)");
      return done ? "returned" : done.error().what;
    });
  }
  // One that still waits is ended, or the test would wait with it.
  ~Commit() {
    while (outcome_.valid() && !returned_within(std::chrono::milliseconds(100)))
      (void)run({program("psql"), "-h", server_.directory().parent_path(), "-p", std::to_string(server_.port()), "-U",
                 "postgres", "-c",
                 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'commit'"});
  }
  Commit(const Commit&) = delete;
  Commit& operator=(const Commit&) = delete;

  bool returned_within(std::chrono::milliseconds limit) {
    return outcome_.wait_for(limit) == std::future_status::ready;
  }
  std::string outcome() { return outcome_.get(); }  // "returned", or the error.

 private:
  const Server& server_;
  std::future<std::string> outcome_;
};

}  // namespace slipstream::postgres::real
