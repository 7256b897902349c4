#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "base/error.h"
#include "dataplane/vdev.h"

namespace slipstream::dataplane {

// What DPDK's memif driver leaves to its user. Its peers meet at a UNIX socket that the server side makes.
struct MemifOptions {
  bool is_server = false;
  bool is_abstract = true;  // The driver's default: a name without a file.
  std::string socket = "/run/memif.sock";
  std::string id = "0";
  std::uint32_t buffer_bytes = 2048;

  static MemifOptions of(const Vdev& vdev);
  // Of this link's doorbells (doorbell.h).
  std::string bell(bool of_server) const { return socket + "." + id + (of_server ? ".server" : ".client"); }
};

bool is_memif(const Vdev& vdev);

// Before the device is made: refuses options that the driver would ignore together with all others; makes the socket's
// directory; on the server's side removes a socket file that a killed process left behind (never one somebody listens
// on, nor anything that is no socket). Errors: kPort.
std::expected<void, Error> prepare_memif(const Vdev& vdev);

// Finds out, without ever waiting, whether a memif server serves its socket. The driver's own connect() blocks on a
// server that is stopped, and a connection given up before the server accepted it ends the server; so first one
// connection of ours must have been greeted, and it is kept until then.
class MemifServerProbe {
 public:
  explicit MemifServerProbe(const MemifOptions& options) : options_(options) {}
  ~MemifServerProbe();
  MemifServerProbe(const MemifServerProbe&) = delete;
  MemifServerProbe& operator=(const MemifServerProbe&) = delete;

  // True once per greeting: everything that connected before was accepted too.
  bool is_greeted();

 private:
  void disconnect();

  MemifOptions options_;
  int connection_ = -1;
};

}  // namespace slipstream::dataplane
