#include "postgres/event.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "base/check.h"

namespace slipstream::postgres {

Event::Event() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { CHECK(fd_ >= 0); }
Event::~Event() { ::close(fd_); }

void Event::signal() const {
  const std::uint64_t one = 1;
  (void)!::write(fd_, &one, sizeof one);
}

void Event::clear() const {
  std::uint64_t count = 0;
  (void)!::read(fd_, &count, sizeof count);
}

}  // namespace slipstream::postgres
