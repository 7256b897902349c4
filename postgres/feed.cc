#include "postgres/feed.h"

#include <fmt/format.h>
#include <poll.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "postgres/feed_client.h"

namespace slipstream::postgres {

FeedServer::FeedServer(FeedOptions options) : options_(std::move(options)) {}

std::expected<std::unique_ptr<FeedServer>, Error> FeedServer::start(FeedOptions options) {
  std::unique_ptr<FeedServer> server(new FeedServer(std::move(options)));
  const auto path = server->options_.socket_directory / fmt::format(".s.PGSQL.{}", server->options_.port);
  const auto fail = [&](std::string what, std::string remedy) { return std::unexpected(Error{ExitCode::kConfiguration, std::move(what), path.string(), std::move(remedy)}); };
  for (const std::string& user : server->options_.allow_users) {
    const passwd* entry = getpwnam(user.c_str());
    if (!entry) return fail(fmt::format("there is no operating-system user \"{}\"", user), "correct replica.feed.allow_users");
    server->allowed_uids_.push_back(entry->pw_uid);
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.string().size() >= sizeof address.sun_path) return fail("the socket's path is too long", "set replica.feed.socket_directory to a shorter path");
  std::memcpy(address.sun_path, path.c_str(), path.string().size() + 1);
  std::error_code ignored;
  std::filesystem::create_directories(server->options_.socket_directory, ignored);
  unlink(path.c_str());
  server->listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  // Who may read is decided by the peer's credentials, so anyone may connect and be told why not.
  const mode_t before = umask(0);
  const int bound = bind(server->listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  umask(before);
  if (bound != 0 || listen(server->listener_, 16) != 0) return fail(fmt::format("cannot open the feed's socket: {}", std::strerror(errno)), "set replica.feed.socket_directory to a place this user may write to");
  server->event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  server->log_begin_ = server->options_.log_begin.value;
  server->released_.timeline = server->options_.timeline;
  server->thread_ = std::thread([self = server.get()] { self->serve(); });
  return server;
}

FeedServer::~FeedServer() {
  if (thread_.joinable()) {
    stop_ = true;
    const std::uint64_t one = 1;
    (void)!write(event_, &one, sizeof one);
    thread_.join();
    unlink((options_.socket_directory / fmt::format(".s.PGSQL.{}", options_.port)).c_str());
  }
  if (listener_ >= 0) close(listener_);
  if (event_ >= 0) close(event_);
}

node::Release FeedServer::released() const {
  const std::lock_guard lock(mutex_);
  return released_;
}

void FeedServer::push(node::StandbyEvent event) {
  // A reply that finds the ring full is dropped: the next one says more.
  if (std::holds_alternative<node::StandbyReply>(event)) (void)events_.push(std::move(event));
  else
    while (!events_.push(std::move(event)) && !stop_) {
      options_.wake();
      usleep(100);
    }
  options_.wake();
}

bool FeedServer::next_event(node::StandbyEvent& event) { return events_.pop(event); }

void FeedServer::release(const node::Release& release) {
  if (release == last_released_) return;
  last_released_ = release;
  {
    const std::lock_guard lock(mutex_);
    released_ = release;
  }
  const std::uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

void FeedServer::accept_client() {
  const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  clients_.push_back(std::make_unique<Client>(*this, fd, known && std::ranges::count(allowed_uids_, peer.uid) != 0));
}

void FeedServer::serve() {
  while (!stop_) {
    const auto now = Client::Clock::now();
    const node::Release release = released();
    std::vector<pollfd> waits{{listener_, POLLIN, 0}, {event_, POLLIN, 0}};
    int wait_ms = 1000;
    std::uint64_t needed = UINT64_MAX;
    for (const auto& client : clients_) {
      client->on_turn(release, now);
      wait_ms = std::min(wait_ms, client->wait_ms(now));
      needed = std::min(needed, client->needed_from().value);
      waits.push_back({client->fd(), static_cast<short>(client->wants_write() ? POLLIN | POLLOUT : POLLIN), 0});
    }
    needed_from_ = needed;
    std::erase_if(clients_, [&](const auto& client) {
      if (client->ended() && client->is_standby()) push(node::StandbyLost{});
      return client->ended();
    });
    if (clients_.size() + 2 != waits.size()) continue;
    if (poll(waits.data(), waits.size(), wait_ms) < 0 && errno != EINTR) return;
    if (waits[1].revents & POLLIN) {
      std::uint64_t count = 0;
      (void)!read(event_, &count, sizeof count);
    }
    for (std::size_t i = 0; i < clients_.size(); ++i)
      if (waits[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) clients_[i]->on_readable();
    if (waits[0].revents & POLLIN) accept_client();
  }
  clients_.clear();
}

}  // namespace slipstream::postgres
