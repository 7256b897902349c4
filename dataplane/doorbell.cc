#include "dataplane/doorbell.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace slipstream::dataplane {

Doorbell::Address Doorbell::address_of(const std::string& name, bool is_abstract) {
  Address out;
  out.un.sun_family = AF_UNIX;
  const std::size_t skip = is_abstract ? 1 : 0;
  if (name.size() + skip + 1 > sizeof out.un.sun_path) return out;
  std::memcpy(out.un.sun_path + skip, name.data(), name.size());
  out.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + skip + name.size() + (is_abstract ? 0 : 1));
  return out;
}

Doorbell::Doorbell(const std::string& name, const std::string& peer, bool is_abstract, bool listens)
    : peer_(address_of(peer, is_abstract)) {
  constexpr int kType = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  ringer_ = ::socket(AF_UNIX, kType, 0);
  const Address own = address_of(name, is_abstract);
  if (!listens || own.bytes == 0) return;
  listener_ = ::socket(AF_UNIX, kType, 0);
  if (listener_ < 0) return;
  if (!is_abstract) ::unlink(name.c_str());  // An earlier process's; a second daemon on this link was refused before.
  if (::bind(listener_, at(own), own.bytes) == 0) {
    if (!is_abstract) file_ = name;
    return;
  }
  ::close(listener_);
  listener_ = -1;
}

Doorbell::~Doorbell() {
  if (listener_ >= 0) ::close(listener_);
  if (ringer_ >= 0) ::close(ringer_);
  if (!file_.empty()) ::unlink(file_.c_str());
}

void Doorbell::ring() {
  if (away_ || ringer_ < 0 || peer_.bytes == 0) return;
  const char ring = 1;
  // Connected: the kernel looks the name up once, not with each ring.
  if (!connected_) connected_ = ::connect(ringer_, at(peer_), peer_.bytes) == 0;
  if (connected_ && ::send(ringer_, &ring, sizeof ring, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return;
  if (connected_ && (errno == EAGAIN || errno == ENOBUFS)) return;  // A full queue: it was rung already.
  connected_ = false, away_ = true;
}

}  // namespace slipstream::dataplane
