#include "dataplane/find_device.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace slipstream::dataplane {
namespace {

namespace fs = std::filesystem;

// A host: eth0 (virtio, PCI 0000:00:03.0) with the default route, eth1 (ice, 0000:3b:00.0), eth2 (mlx5, 0000:5e:00.0),
// a NIC bound to vfio-pci (0000:3b:00.1), a disk so bound (0000:3c:00.0).
class FindDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("slip-host-" + std::to_string(::getpid()));
    fs::remove_all(root_);
    add_pci("0000:00:03.0", "virtio-pci", "0x020000");
    add_pci("0000:3b:00.0", "ice", "0x020000");
    add_pci("0000:3b:00.1", "vfio-pci", "0x020000");
    add_pci("0000:3c:00.0", "vfio-pci", "0x010802");
    add_pci("0000:5e:00.0", "mlx5_core", "0x020000");
    add_interface("eth0", "02:00:00:00:00:10", "0000:00:03.0/virtio2");
    add_interface("eth1", "02:00:00:00:00:11", "0000:3b:00.0");
    add_interface("eth2", "02:00:00:00:00:12", "0000:5e:00.0");
    add_interface("lo", "00:00:00:00:00:00", "");
    write("proc/self/net/ipv6_route", "");
    route_over("eth0");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void add_pci(const std::string& address, const std::string& driver, const std::string& kind) {
    const fs::path at = fs::path("sys/bus/pci/devices") / address;
    write(at / "class", kind + "\n");
    fs::create_symlink("../drivers/" + driver, root_ / at / "driver");
  }
  void add_interface(const std::string& name, const std::string& mac, const std::string& device) {
    write("sys/class/net/" + name + "/address", mac + "\n");
    if (!device.empty()) fs::create_directories(root_ / "sys/bus/pci/devices" / device / "net" / name);
  }
  void add_lower(const std::string& upper, const std::string& lower) {
    fs::create_directories(root_ / "sys/class/net" / upper / ("lower_" + lower));
  }
  void route_over(const std::string& interface) {
    write("proc/self/net/route",
          "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" + interface +
              "\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
              "eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
  }

  std::expected<FoundDevice, Error> find(DeviceName name) {
    name.port = "to_a", name.packet_bytes_max = std::max(name.packet_bytes_max, 1514u);
    return find_device(name, 3, HostNetwork(root_));
  }
  static DeviceName vdev(const std::string& text) { return {"", text}; }
  static DeviceName pci(const std::string& text) { return {"", "", text}; }
  static DeviceName mac(const std::string& text) { return {"", "", "", text}; }
  static DeviceName interface(const std::string& text) { return {"", "", "", "", text}; }

  void expect_refusal(const DeviceName& name, const std::vector<std::string>& parts) {
    const auto found = find(name);
    ASSERT_FALSE(found) << found->device;
    EXPECT_EQ(found.error().code, ExitCode::kPort);
    for (const std::string& part : parts)
      EXPECT_NE(found.error().message().find(part), std::string::npos) << found.error().message() << "\nlacks " << part;
  }

  fs::path root_;
};

TEST_F(FindDevice, RefusesTheDefaultRoutesNicInEverySpelling) {
  for (const DeviceName& name : {vdev("net_af_packet0,iface=eth0"), vdev("net_af_xdp0,iface=eth0,start_queue=0"),
                                 vdev("net_tap0,remote=eth0"), vdev("net_pcap0,rx_iface=eth1,tx_iface=eth0"),
                                 pci("0000:00:03.0"), pci("00:03.0"), mac("02:00:00:00:00:10"), interface("eth0")})
    expect_refusal(name, {"port \"to_a\"", "eth0 carries this host's default route", "to do: ", "kernel_udp"});
}

TEST_F(FindDevice, RefusesWhatTheDefaultRoutesInterfaceStandsOn) {
  add_interface("bond0", "02:00:00:00:00:20", "");
  add_interface("bond0.7", "02:00:00:00:00:20", "");
  add_lower("bond0.7", "bond0");
  add_lower("bond0", "eth1");
  route_over("bond0.7");
  expect_refusal(interface("eth1"), {"eth1 carries"});
  expect_refusal(pci("0000:3b:00.0"), {"eth1 carries"});
  EXPECT_TRUE(find(interface("eth0"))) << "which has no route now";
}

TEST_F(FindDevice, ReadsIpv6sRoutesToo) {
  const std::string zeros(32, '0');
  write("proc/self/net/route", "");
  write("proc/self/net/ipv6_route",
        zeros + " 00 " + zeros + " 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth1\n" +
            zeros + " 00 " + zeros + " 00 " + zeros + " ffffffff 00000001 00000000 00200200       lo\n");
  expect_refusal(interface("eth1"), {"eth1 carries"});
  EXPECT_TRUE(find(interface("eth0")));
  EXPECT_TRUE(find(interface("lo"))) << "a route that rejects leads nowhere";
}

TEST_F(FindDevice, RefusesWhatItCannotJudge) {
  fs::remove(root_ / "proc/self/net/route");
  expect_refusal(interface("eth1"), {"default route cannot be told", "/proc/self/net/route"});
  EXPECT_TRUE(find(vdev("net_memif0,role=client"))) << "no interface of the kernel's is touched";
}

TEST_F(FindDevice, AnInterfaceStaysTheKernels) {
  const auto packet = find(interface("eth1"));
  ASSERT_TRUE(packet) << packet.error().message();
  EXPECT_EQ(packet->device, "net_af_packet103");
  EXPECT_EQ(packet->vdevs,
            std::vector<std::string>{"net_af_packet103,iface=eth1,framesz=2048,blocksz=4096,framecnt=2048,qpairs=1"});
  DeviceName jumbo = interface("eth1");
  jumbo.packet_bytes_max = 9014;
  EXPECT_EQ(find(jumbo)->vdevs.front(),
            "net_af_packet103,iface=eth1,framesz=9088,blocksz=290816,framecnt=2048,qpairs=1");
  EXPECT_TRUE(packet->pci.empty());
  EXPECT_EQ(find(interface("eth2"))->vdevs.size(), 1u) << "also where DPDK could take the NIC beside the kernel";
  expect_refusal(interface("eht1"), {"no interface eht1", "eth0, eth1, eth2, lo", "did you mean \"eth1\"?"});
}

TEST_F(FindDevice, AMacAddressIsAnInterfacesOrAVfioBoundNics) {
  EXPECT_EQ(find(mac("02:00:00:00:00:11"))->device, "net_af_packet103");
  const auto shared = find(mac("02:00:00:00:00:12"));
  ASSERT_TRUE(shared) << shared.error().message();
  EXPECT_EQ(shared->device, "02:00:00:00:00:12");
  EXPECT_EQ(shared->pci, std::vector<std::string>{"0000:5e:00.0"}) << "DPDK works through mlx5's kernel driver";
  const auto bound = find(mac("02:00:00:00:00:99"));
  ASSERT_TRUE(bound) << bound.error().message();
  EXPECT_EQ(bound->device, "02:00:00:00:00:99");
  EXPECT_EQ(bound->pci, std::vector<std::string>{"0000:3b:00.1"}) << "NICs only";
  fs::remove_all(root_ / "sys/bus/pci/devices/0000:3b:00.1");
  expect_refusal(mac("02:00:00:00:00:99"), {"no interface has", "no NIC is bound"});
  expect_refusal(mac("02:00:00"), {"no MAC address"});
}

TEST_F(FindDevice, APciDeviceMustBeDpdks) {
  EXPECT_EQ(find(pci("3b:00.1"))->pci, std::vector<std::string>{"3b:00.1"});
  expect_refusal(pci("0000:3b:00.0"), {"kernel's driver ice", "--bind=vfio-pci 0000:3b:00.0"});
  expect_refusal(pci("0000:3b:00.7"), {"no PCI device 0000:3b:00.7"});
}

TEST_F(FindDevice, AVirtualDeviceIsMadeAsDescribed) {
  const auto found = find(vdev("net_memif0,role=client,socket=/run/x"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->device, "net_memif0");
  EXPECT_EQ(found->vdevs, std::vector<std::string>{"net_memif0,role=client,socket=/run/x"});
}

}  // namespace
}  // namespace slipstream::dataplane
