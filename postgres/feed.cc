#include "postgres/feed.h"

#include <sys/eventfd.h>

#include "base/check.h"
#include "postgres/feed_loop.h"

namespace slipstream::postgres {

FeedServer::FeedServer(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}

std::expected<std::unique_ptr<FeedServer>, Error> FeedServer::start(FeedOptions options) {
  auto allowed = user_ids(options.allow_users);
  if (!allowed) return std::unexpected(allowed.error());
  auto socket = FeedSocket::listen(options.socket_directory, options.port);
  if (!socket) return std::unexpected(socket.error());
  const int event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  CHECK(event >= 0);
  auto loop = std::make_unique<Loop>(std::move(options), std::move(*socket), std::move(*allowed), event);
  loop->start();
  return std::unique_ptr<FeedServer>(new FeedServer(std::move(loop)));
}

FeedServer::~FeedServer() { stop(); }

void FeedServer::stop() { loop_->stop(); }
bool FeedServer::next_event(node::StandbyEvent& event) { return loop_->next_event(event); }
void FeedServer::release(const node::Release& release) { loop_->release(release); }
Lsn FeedServer::needed_from() const { return loop_->needed_from(); }
void FeedServer::set_log_begin(Lsn begin) { loop_->set_log_begin(begin); }
FeedView FeedServer::view() const { return loop_->view(); }

}  // namespace slipstream::postgres
