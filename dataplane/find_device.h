#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "base/error.h"
#include "dataplane/host_network.h"

namespace slipstream::dataplane {

// How a configuration names a device: exactly one of the four.
struct DeviceName {
  std::string port;  // The port's own name, for messages.
  std::string vdev;  // DPDK's description of a virtual device.
  std::string pci;   // "0000:3b:00.0"
  std::string mac;
  std::string interface;               // The kernel's.
  std::uint32_t packet_bytes_max = 0;  // As Device has it.
};

struct FoundDevice {
  std::string device;                   // What DeviceConfig calls it.
  std::vector<std::string> vdevs, pci;  // What start_eal() has to make and allow for it.
};

// What DPDK needs for the device of that name. An interface stays the kernel's, and is used through af_packet. A MAC
// address is that of a NIC whose kernel driver DPDK works through (Mellanox: what arrives is then DPDK's, not the
// kernel's), of another interface, or of a NIC bound to vfio-pci; to find it among these all are opened for a moment.
// Errors (kPort), before anything is touched: no such device, its kernel driver does not share it, a malformed MAC; and
// refused in every spelling: a device that carries the host's default route, since taking it would cut the host off.
// `number` is the port's, for names.
std::expected<FoundDevice, Error> find_device(const DeviceName& name, unsigned number, const HostNetwork& host);

}  // namespace slipstream::dataplane
