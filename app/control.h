#pragma once

#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "app/json.h"
#include "base/error.h"

namespace slipstream::app {

// The daemon's local control socket: one JSON object a line in, one out ({"ok": …} or {"error": {code, what, where,
// remedy}}). Mode 0600, so only the daemon's user and root reach it. One thread; a client that says nothing for 5 s is
// dropped. A handler may throw of a field that is of a wrong type: that is told as an error too.
class ControlServer {
 public:
  using Handler = std::function<std::expected<Json, Error>(const Json& request)>;

  static std::expected<std::unique_ptr<ControlServer>, Error> start(const std::string& path, Handler handler);
  ~ControlServer();

 private:
  ControlServer(int listener, std::string path, Handler handler);
  void serve();
  std::expected<Json, Error> handle(const Json& request) const;
  void answer(int client);

  int listener_;
  std::string path_;
  Handler handler_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Asks the daemon behind `path`. kUnreachable when there is none.
std::expected<Json, Error> control_call(const std::string& path, const Json& request,
                                        std::chrono::seconds timeout = std::chrono::seconds(30));

}  // namespace slipstream::app
