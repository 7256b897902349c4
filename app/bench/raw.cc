#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "app/bench/bench.h"
#include "app/network.h"
#include "dataplane/idle.h"

namespace slipstream::app::bench {
namespace {

constexpr std::size_t kHeadBytes = 64;  // About as long as a data frame's.
constexpr std::size_t kBurst = 32;
constexpr std::size_t kTcpBytes = 256 << 10;  // A system call.

void print_received(std::uint64_t bytes, std::uint64_t frames, Instant first, Instant last) {
  const double took = static_cast<double>((last - first).ns) / 1e9;
  std::printf("%s\n", Json{{"bytes", bytes}, {"frames", frames}, {"seconds", took}}.dump().c_str());
}

Error tcp_error(const Config& config, const char* what) {
  return {ExitCode::kPort, std::string(what) + ": " + std::strerror(errno), config.path,
          "TCP port 7650 of the addresses in that file must be free and reachable"};
}

sockaddr_in tcp_address(const std::string& address, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET, out.sin_port = htons(port);
  (void)::inet_pton(AF_INET, address.c_str(), &out.sin_addr);
  return out;
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::expected<void, Error> receive_raw(const Config& config, const std::atomic<bool>& stop) {
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  std::array<protocol::Arrival, kBurst> frames;
  std::uint64_t bytes = 0, count = 0;
  Instant first{}, last{};
  while (!stop.load(std::memory_order_relaxed)) {
    const std::size_t got = network->unsealed_port().receive(frames);
    if (got == 0) continue;
    last = dataplane::monotonic_now();
    if (first == Instant{}) first = last;
    for (std::size_t i = 0; i < got; ++i) bytes += frames[i].bytes().size();
    count += got;
  }
  print_received(bytes, count, first, last);
  return {};
}

std::expected<void, Error> send_raw(const Config& config, double for_seconds) {
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::prepare_data_thread(config.runtime.core.value_or(-1));
  node::Port& port = network->unsealed_port();
  const NodeId peer = config.replicas().front()->number;
  const std::vector<std::byte> payload(port.frame_bytes_max(peer) - kHeadBytes, std::byte{0x5a});
  node::OutFrame frame;
  frame.head_bytes = kHeadBytes, frame.payload = payload;
  std::array<protocol::Arrival, kBurst> ignored;
  const Instant patient_until = dataplane::monotonic_now() + seconds(20);
  while (port.room(peer) == 0) {
    port.receive(ignored);  // Makes the link come up.
    if (dataplane::monotonic_now() > patient_until)
      return std::unexpected(Error{ExitCode::kPort, "the link stayed down for 20 s", config.path,
                                   "run `slipstream bench receive --sink raw -c FILE` on the other side"});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const Instant until = dataplane::monotonic_now() + Duration{static_cast<std::int64_t>(for_seconds * 1e9)};
  while (dataplane::monotonic_now() < until) {
    for (std::size_t room = std::min(port.room(peer), kBurst); room > 0; --room) port.send(peer, frame);
    port.flush();
    port.receive(ignored);
  }
  return {};
}

std::expected<void, Error> receive_tcp(const Config& config, const std::atomic<bool>& stop) {
  const Socket listener(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in self = tcp_address(config.ports.front().bare_address(), config.self().udp_port);
  const int on = 1;
  (void)::setsockopt(listener.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener.fd(), reinterpret_cast<const sockaddr*>(&self), sizeof self) != 0 ||
      ::listen(listener.fd(), 1) != 0)
    return std::unexpected(tcp_error(config, "cannot listen"));
  const Socket stream(::accept(listener.fd(), nullptr, nullptr));
  std::vector<std::byte> into(kTcpBytes);
  std::uint64_t bytes = 0;
  Instant first{}, last{};
  for (ssize_t got = 0; (got = ::recv(stream.fd(), into.data(), into.size(), 0)) > 0;) {
    last = dataplane::monotonic_now();
    if (first == Instant{}) first = last;
    bytes += static_cast<std::uint64_t>(got);
  }
  while (!stop.load(std::memory_order_relaxed)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  print_received(bytes, 0, first, last);
  return {};
}

std::expected<void, Error> send_tcp(const Config& config, double for_seconds) {
  const NodeConfig& peer = *config.replicas().front();
  const sockaddr_in to = tcp_address(peer.address, peer.udp_port);
  const Instant patient_until = dataplane::monotonic_now() + seconds(20);
  while (true) {
    const Socket stream(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(stream.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
      const std::vector<std::byte> from(kTcpBytes, std::byte{0x5a});
      const Instant until = dataplane::monotonic_now() + Duration{static_cast<std::int64_t>(for_seconds * 1e9)};
      while (dataplane::monotonic_now() < until)
        if (::send(stream.fd(), from.data(), from.size(), MSG_NOSIGNAL) < 0)
          return std::unexpected(tcp_error(config, "cannot send"));
      return {};
    }
    if (dataplane::monotonic_now() > patient_until)
      return std::unexpected(tcp_error(config, "cannot connect for 20 s"));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace slipstream::app::bench
