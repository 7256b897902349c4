#pragma once

#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "postgres/feed.h"

namespace slipstream::postgres::feed_test {

// A directory of its own that everyone may enter, removed at the end.
class Place {
 public:
  Place() {
    char name[] = "/tmp/slipstream_feed_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::permissions(path_, std::filesystem::perms(0755));
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string own_user() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry ? entry->pw_name : "";
}

inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Waits for at most 30 s.
inline bool eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// What the data thread would have been told, in words: "connected NAME START", "reply APPLY", "lost".
class Told {
 public:
  explicit Told(FeedServer& server) : server_(server) {}

  void take() {
    node::StandbyEvent event;
    while (server_.next_event(event)) {
      if (const auto* connected = std::get_if<node::StandbyConnected>(&event))
        words.push_back("connected " + connected->application_name + " " + to_string(connected->restart_point));
      if (const auto* reply = std::get_if<node::StandbyReply>(&event)) last = *reply, ++replies;
      if (std::holds_alternative<node::StandbyLost>(event)) words.push_back("lost");
    }
  }
  bool applied(Lsn end) {
    return eventually([&] { return take(), last.apply >= end; });
  }
  bool said(std::size_t count) {
    return eventually([&] { return take(), words.size() >= count; });
  }

  std::vector<std::string> words;
  node::StandbyReply last{};
  std::size_t replies = 0;

 private:
  FeedServer& server_;
};

}  // namespace slipstream::postgres::feed_test
