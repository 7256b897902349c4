#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/lsn.h"

namespace slipstream::postgres::real {

// Stands between a client and a server on unix sockets and, when told to, changes one byte of the WAL in what the
// server streams.
class Proxy {
 public:
  // `directory`/.s.PGSQL.`port` leads to `server`'s socket.
  Proxy(const std::filesystem::path& directory, int port, std::filesystem::path server);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  std::atomic<int> spoil{0};    // So many of the next 'w' messages.
  std::atomic<int> streams{0};  // That have begun.
  // Where the first message that was spoiled on the latest stream starts; UINT64_MAX: none was.
  Lsn spoiled_at() const { return Lsn{spoiled_at_}; }

 private:
  void accept_all();
  void serve(int client);
  bool pass_on(int server, int client, std::vector<std::byte>& held);
  void look_at(std::span<std::byte> message);

  std::filesystem::path server_;
  int listener_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> spoiled_at_{UINT64_MAX};
  std::vector<std::thread> threads_;  // The acceptor's.
  std::thread acceptor_;
};

}  // namespace slipstream::postgres::real
