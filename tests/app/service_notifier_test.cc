#include "app/service_notifier.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <string>

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;

// The manager's side: a datagram socket whose name is in the environment.
class Manager {
 public:
  explicit Manager(const char* watchdog_us) {
    char name[] = "/tmp/slipstream_notify_XXXXXX";
    directory_ = ::mkdtemp(name);
    const std::string path = directory_ + "/socket";
    socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{AF_UNIX, {}};
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", watchdog_us, 1);
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
    ::close(socket_);
    std::filesystem::remove_all(directory_);
  }
  // The next message; empty when none comes within that time.
  std::string next(std::chrono::milliseconds within) {
    pollfd waited{socket_, POLLIN, 0};
    if (::poll(&waited, 1, static_cast<int>(within.count())) != 1) return "";
    char text[4096];
    const auto size = ::recv(socket_, text, sizeof text, 0);
    return size < 0 ? "" : std::string(text, static_cast<std::size_t>(size));
  }

 private:
  std::string directory_;
  int socket_ = -1;
};

TEST(ServiceNotifier, TellsThatItIsReadyWithItsStateAndThenFeedsTheWatchdog) {
  Manager manager("60000");
  ServiceNotifier notifier([] { return std::string("running; a streaming"); });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(manager.next(10s), "READY=1\nSTATUS=running; a streaming\nWATCHDOG=1");
  notifier.stop();
  while (!manager.next(0ms).empty()) continue;
  ServiceNotifier::stopping();
  EXPECT_EQ(manager.next(10s), "STOPPING=1");
}

TEST(ServiceNotifier, SaysNothingWhileTheDataThreadDoesNotAnswer) {
  Manager manager("30000");
  std::promise<void> hangs;
  std::atomic<int> asked{0};
  ServiceNotifier notifier([&] {
    if (++asked == 2) hangs.get_future().wait();
    return std::string("running");
  });
  EXPECT_FALSE(manager.next(10s).empty());
  EXPECT_EQ(manager.next(300ms), "");
  EXPECT_EQ(asked, 2);
  hangs.set_value();
  EXPECT_FALSE(manager.next(10s).empty());
}

TEST(ServiceNotifier, AsksNothingWithoutAServiceManager) {
  std::atomic<int> asked{0};
  ServiceNotifier notifier([&] { return ++asked, std::string(); });
  notifier.stop();
  EXPECT_EQ(asked, 0);
}

}  // namespace
}  // namespace slipstream::app
