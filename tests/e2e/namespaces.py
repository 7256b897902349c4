"""Network namespaces as hosts, joined by veth pairs, and a cluster whose daemons live in them."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from cluster import SLIPSTREAM, Cluster, Process, run, wait_for

HERE = Path(__file__).resolve().parent


def need_root():
    if os.geteuid() != 0:
        print("needs root for network namespaces")
        sys.exit(77)


class Namespaces:
    """Network namespaces, each a host of its own: "p" and "a" joined by a veth pair, and whom one adds."""

    def __init__(self):
        self.tag = os.getpid() % 10000
        self.hosts, self.helpers = [], []

    def name(self, host):
        return f"slip{self.tag}{host}"

    def link(self, host, other):
        """The host's end of its cable to another."""
        return f"sl{self.tag}{host}{other}"

    def add(self, host):
        subprocess.run(["ip", "netns", "add", self.name(host)], check=True)
        self.hosts.append(host)
        self.ip(host, "link", "set", "lo", "up")

    def join(self, one, other):
        subprocess.run(["ip", "link", "add", self.link(one, other), "type", "veth", "peer", "name", self.link(other, one)], check=True)
        for host, link in ((one, self.link(one, other)), (other, self.link(other, one))):
            subprocess.run(["ip", "link", "set", link, "netns", self.name(host)], check=True)
            self.ip(host, "link", "set", link, "up")

    def add_vlan(self, host, trunk, vlan, address):
        """An interface of the host for a VLAN of its link `trunk`. Returns its name."""
        name = f"{trunk}.{vlan}"
        made = self.run(host, "ip", "link", "add", "link", trunk, "name", name, "type", "vlan", "id", vlan)
        if made.returncode != 0:  # This kernel cannot.
            self.helpers.append(subprocess.Popen(self.command(host, "/usr/bin/python3", HERE / "vlan_interface.py", trunk, name, vlan)))
            wait_for(f"{name} to be there", lambda: self.run(host, "ip", "link", "show", name).returncode == 0, 10)
        self.ip(host, "addr", "add", address, "dev", name)
        self.ip(host, "link", "set", name, "up")
        return name

    def ip(self, host, *arguments):
        subprocess.run(["ip", "-n", self.name(host), *arguments], check=True, stdout=subprocess.PIPE)

    def command(self, host, *command):
        return ["ip", "netns", "exec", self.name(host), *map(str, command)]

    def run(self, host, *command, timeout=30):
        return subprocess.run(self.command(host, *command), capture_output=True, text=True, timeout=timeout)

    def pings(self, host, address, payload_bytes=56):
        """Whether `address` answers an echo request of this size, whole."""
        return self.run(host, "ping", "-n", "-c", "1", "-W", "3", "-s", payload_bytes, address).returncode == 0

    def give_replica_to_the_kernel(self):
        self.ip("a", "addr", "add", "10.77.0.2/24", "dev", self.link("a", "p"))

    def give_primary_to_the_kernel(self):
        self.ip("p", "addr", "add", "10.77.0.1/24", "dev", self.link("p", "a"))

    def __enter__(self):
        self.add("p")
        self.add("a")
        self.join("p", "a")
        return self

    def __exit__(self, *_):
        for helper in self.helpers:
            helper.kill()
            helper.wait()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", self.name(host)], stderr=subprocess.DEVNULL)


class BridgedNamespaces(Namespaces):
    """The same, but the cable from "p" to "a" leads through the bridge of a third host, "m"."""

    def join(self, one, other):
        self.add("m")
        self.ip("m", "link", "add", "bridge", "type", "bridge")
        self.ip("m", "link", "set", "bridge", "up")
        for host, far in ((one, other), (other, one)):
            subprocess.run(["ip", "link", "add", self.link(host, far), "type", "veth", "peer", "name", self.link("m", host)], check=True)
            subprocess.run(["ip", "link", "set", self.link(host, far), "netns", self.name(host)], check=True)
            subprocess.run(["ip", "link", "set", self.link("m", host), "netns", self.name("m")], check=True)
            self.ip("m", "link", "set", self.link("m", host), "master", "bridge", "up")
            self.ip(host, "link", "set", self.link(host, far), "up")
        self.set_mtu(9000)

    def set_path_mtu(self, mtu):
        """Of the way from the bridge to "a" alone: neither end is told. (What the near end of a veth pair drops, af_packet sends again for ever.)"""
        self.ip("m", "link", "set", self.link("m", "a"), "mtu", str(mtu))

    def set_mtu(self, mtu):
        for host, far in (("p", "a"), ("m", "p"), ("a", "p")):
            self.ip(host, "link", "set", self.link(host, far), "mtu", str(mtu))
        self.set_path_mtu(mtu)


class PacketCluster(Cluster):
    """The same cluster with daemons in namespaces of their own, as root: over af_packet, a replica perhaps over kernel UDP."""

    namespaces = None
    on_kernel_udp = ()  # Of "server" (the primary's end) and "client".
    primary_network = ""  # More lines of the primary's port,
    port_lines = ""  # of both.
    # DPDK's vdev, or an interface's name.
    device = "net_af_packet0,iface={link},blocksz=4096,framesz=2048,framecnt=2048,qpairs=1"

    def status(self, name):
        done = run(SLIPSTREAM, "status", "-c", self.config_path(name), "--json", check=False, timeout=30, user=0, group=0)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def _port(self, name, peer_of, number, role):
        link = self.namespaces.link("p", "a") if role == "server" else self.namespaces.link("a", "p")
        local = "10.77.0.1" if role == "server" else f"10.77.0.{number}"
        if role in self.on_kernel_udp:
            return f'\n[[port]]\nname = "{name}"\nkernel_udp = true\naddress = "{local}"\n{self._faults()}'
        network = self.primary_network if role == "server" else ""
        device = self.device.format(link=link)
        key = "vdev" if "," in device else "interface"
        return f'\n[[port]]\nname = "{name}"\n{key} = "{device}"\naddress = "{local}/24"\n{network}{self.port_lines}{self._faults()}'

    def start_daemon(self, name, extra=()):
        command = self.namespaces.command("p" if name == "p" else "a", SLIPSTREAM, "run", "-c", self.config_path(name), *extra)
        self.daemons[name] = Process(f"daemon {name}", command, self.dir / f"{name}.log", user=False)
        return self.daemons[name]


class NicCluster(PacketCluster):
    """The same over two NICs of this host, bound to vfio-pci and joined by a cable: the primary's and the replica's, by PCI address or MAC."""

    nics = ()

    def _port(self, name, peer_of, number, role):
        local = "10.77.0.1" if role == "server" else f"10.77.0.{number}"
        nic = self.nics[role != "server"]
        key = "pci" if "." in nic else "mac"
        return f'\n[[port]]\nname = "{name}"\n{key} = "{nic}"\naddress = "{local}/24"\n{self.port_lines}{self._faults()}'

    def start_daemon(self, name, extra=()):
        self.daemons[name] = Process(f"daemon {name}", [SLIPSTREAM, "run", "-c", self.config_path(name), *extra], self.dir / f"{name}.log", user=False)
        return self.daemons[name]


def is_nics(kind):
    return ":" in kind


DEVICES = {"af_packet": PacketCluster.device, "af_xdp": "net_af_xdp0,iface={link}"}


@contextmanager
def cluster_over(kind):
    """A primary and the replica a, joined by memif, or by a veth pair between two namespaces with this kind of port at both ends ("af_packet", "af_xdp", "kernel_udp") or with two ("af_packet to kernel_udp"); or by two NICs ("0000:01:00.0 to 0000:02:00.0")."""
    if kind == "memif":
        with Cluster(policy="ANY 1 (a)", replicas=("a",)) as cluster:
            yield cluster
        return
    need_root()
    if is_nics(kind):
        NicCluster.nics = kind.split(" to ")
        with NicCluster(policy="ANY 1 (a)", replicas=("a",)) as cluster:
            yield cluster
        return
    primary, replica = (kind.split(" to ") * 2)[:2]
    with Namespaces() as namespaces:
        PacketCluster.namespaces, PacketCluster.device = namespaces, DEVICES.get(primary)
        PacketCluster.on_kernel_udp = [role for role, end in (("server", primary), ("client", replica)) if end == "kernel_udp"]
        if "server" in PacketCluster.on_kernel_udp:
            namespaces.give_primary_to_the_kernel()
        if "client" in PacketCluster.on_kernel_udp:
            namespaces.give_replica_to_the_kernel()
        with PacketCluster(policy="ANY 1 (a)", replicas=("a",)) as cluster:
            yield cluster
