#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <cstddef>
#include <string>

namespace slipstream::dataplane {

// Wakes the process at the other end of a link that has no interrupts but whose both ends are on this machine (memif):
// each end listens on a UNIX datagram socket and rings the other's after it has sent. A ring is a hint: a lost one
// costs what a poll would have, so nothing here reports errors, and the sleeper still looks by itself now and then.
// Waking by a ring takes about 4 us, a sleeper's own timer 60 us and more on a virtual machine.
// Ownership: removes its socket file. Threading: one thread; fd() may be polled by it too.
class Doorbell {
 public:
  // `name`: of this end's socket, and of the peer's; a path, or a name without a file when `is_abstract`. An end that
  // never sleeps does not listen.
  Doorbell(const std::string& name, const std::string& peer, bool is_abstract, bool listens);
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  int fd() const { return listener_; }  // Readable when rung; -1: does not listen. What is read means nothing.
  void ring();                          // Never waits. A peer that is away is tried again after reconnect().
  void reconnect() { away_ = connected_ = false; }  // The link came up, or it is time to look again.

 private:
  struct Address {
    sockaddr_un un{};
    socklen_t bytes = 0;  // 0: too long a name.
  };
  static Address address_of(const std::string& name, bool is_abstract);
  const sockaddr* at(const Address& address) const { return reinterpret_cast<const sockaddr*>(&address.un); }

  Address peer_;
  std::string file_;  // To be removed; empty: none.
  int listener_ = -1;
  int ringer_ = -1;
  bool connected_ = false;
  bool away_ = false;
};

}  // namespace slipstream::dataplane
