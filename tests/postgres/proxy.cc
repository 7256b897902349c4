#include "tests/postgres/proxy.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <stdexcept>

#include "base/bytes.h"

namespace slipstream::postgres::real {
namespace {

sockaddr_un address_of(const std::filesystem::path& path) {
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  std::strncpy(out.sun_path, path.c_str(), sizeof out.sun_path - 1);
  return out;
}

bool send_all(int to, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

}  // namespace

Proxy::Proxy(const std::filesystem::path& directory, int port, std::filesystem::path server)
    : server_(std::move(server)), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const sockaddr_un address = address_of(directory / (".s.PGSQL." + std::to_string(port)));
  if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_, 16) != 0)
    throw std::runtime_error("the proxy cannot listen");
  acceptor_ = std::thread([this] { accept_all(); });
}

Proxy::~Proxy() {
  stop_ = true;
  acceptor_.join();
  for (std::thread& each : threads_) each.join();
  ::close(listener_);
}

void Proxy::accept_all() {
  while (!stop_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 50) <= 0) continue;
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) threads_.emplace_back([this, client] { serve(client); });
  }
}

void Proxy::serve(int client) {
  const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(server_);
  bool alive = ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  std::vector<std::byte> held;
  while (alive && !stop_) {
    pollfd waiting[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    if (::poll(waiting, 2, 50) <= 0) continue;
    if (waiting[0].revents != 0) {
      std::byte bytes[8192];
      const ssize_t got = ::recv(client, bytes, sizeof bytes, 0);
      alive = got > 0 && send_all(server, std::span(bytes).first(static_cast<std::size_t>(got)));
    }
    if (alive && waiting[1].revents != 0) alive = pass_on(server, client, held);
  }
  ::close(server);
  ::close(client);
}

// Whole messages only: a tag, the length of what follows with itself, the body.
bool Proxy::pass_on(int server, int client, std::vector<std::byte>& held) {
  std::byte bytes[65536];
  const ssize_t got = ::recv(server, bytes, sizeof bytes, 0);
  if (got <= 0) return false;
  held.insert(held.end(), bytes, bytes + got);
  std::size_t whole = 0;
  while (held.size() - whole >= 5) {
    const std::size_t message = 1 + ByteReader(std::span(held).subspan(whole + 1)).be<std::uint32_t>();
    if (held.size() - whole < message) break;
    look_at(std::span(held).subspan(whole, message));
    whole += message;
  }
  const bool sent = send_all(client, std::span(held).first(whole));
  held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(whole));
  return sent;
}

void Proxy::look_at(std::span<std::byte> message) {
  constexpr std::size_t kHead = 5 + 1 + 24;  // CopyData, 'w', start, end, time.
  if (message[0] == std::byte{'W'}) {
    ++streams;
    spoiled_at_ = UINT64_MAX;
  }
  if (message[0] != std::byte{'d'} || message[5] != std::byte{'w'} || message.size() <= kHead || spoil <= 0) return;
  --spoil;
  message[(kHead + message.size()) / 2] ^= std::byte{0x10};
  const std::uint64_t start = ByteReader(message.subspan(6)).be<std::uint64_t>();
  std::uint64_t none = UINT64_MAX;
  spoiled_at_.compare_exchange_strong(none, start);
}

}  // namespace slipstream::postgres::real
