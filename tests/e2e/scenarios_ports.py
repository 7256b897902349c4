"""One end of a link without a database (tests/dataplane/peer): VLANs, gateways, drivers."""

import os
import subprocess
import threading

from cluster import ROOT, SLIPSTREAM, Cluster, wait_for
from namespaces import Namespaces, need_root
from scenario import changed, check, scenario

PEER = os.environ.get("DATAPLANE_PEER", ROOT / os.environ.get("BUILD_DIR", "build") / "tests" / "dataplane" / "dataplane_peer")
UDP_PORT = 7650


class Peer:
    """A dataplane_peer, in a network namespace or here; its lines so far."""

    def __init__(self, namespaces, host, **arguments):
        command = [str(PEER), *(f"{key}={value}" for key, value in arguments.items())]
        self.popen = subprocess.Popen(namespaces.command(host, *command) if namespaces else command, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.popen.stdout.readline, "")), daemon=True)
        self.reader.start()

    def says(self, word, within=10):
        wait_for(f"the peer to say {word}; it says {self.lines[-3:]}", lambda: any(line.startswith(word) for line in self.lines), within)
        return next(line.strip() for line in self.lines if line.startswith(word))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.terminate()
        self.popen.wait(10)
        self.reader.join()


def echoes(namespaces, host, own, to, sizes):
    """Sends frames of these sizes from the kernel's UDP; whether each came back whole."""
    code = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{own}", {UDP_PORT})), s.settimeout(0.5)
for size in {list(sizes)}:
    frame = bytes(i % 251 for i in range(size))
    for attempt in range(10):
        s.sendto(frame, ("{to}", {UDP_PORT}))
        try:
            got = s.recv(65535)
            break
        except TimeoutError:
            continue
    else:
        raise SystemExit(f"nothing came back of {{size}} bytes")
    assert got == frame, (size, len(got))
"""
    done = namespaces.run(host, "/usr/bin/python3", "-c", code)
    return done.returncode == 0 or done.stderr


@scenario
def a_port_in_a_vlan_reaches_a_peer_behind_a_gateway():
    """A DPDK port in VLAN 42; its peer is the kernel of a host in another network, behind a router with a VLAN interface."""
    need_root()
    for device in ("net_af_packet0,iface={},framesz=2048", "net_af_xdp0,iface={}"):
        with Namespaces() as namespaces:
            namespaces.add("b")
            namespaces.join("a", "b")  # a routes.
            trunk = namespaces.link("a", "p")
            namespaces.ip("a", "addr", "add", "10.77.9.254/24", "dev", trunk)
            vlan = namespaces.add_vlan("a", trunk, 42, "10.77.0.254/24")
            namespaces.ip("a", "addr", "add", "10.78.0.254/24", "dev", namespaces.link("a", "b"))
            namespaces.run("a", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            namespaces.ip("b", "addr", "add", "10.78.0.2/24", "dev", namespaces.link("b", "a"))
            namespaces.ip("b", "route", "add", "default", "via", "10.78.0.254")
            port = {"vdev": device.format(namespaces.link("p", "a")), "name": f"ports{namespaces.tag}", "mode": "echo", "mtu": 1496}
            with Peer(namespaces, "p", address="10.77.0.1/24", peer="10.78.0.2", gateway="10.77.0.254", vlan=42, **port) as peer:
                peer.says("up")  # The gateway has answered.
                answered = echoes(namespaces, "b", "10.78.0.2", "10.77.0.1", (1, 100, 1468))
                check(answered is True, f"{port['vdev']}: frames of every size come back through the gateway{'' if answered is True else f': {answered}'}")
                check(namespaces.pings("b", "10.77.0.1"), "a ping comes back through the gateway")
                check(namespaces.run("a", "arping", "-c", "1", "-w", "3", "-I", vlan, "10.77.0.1").returncode == 0, "in its VLAN it answers arping")
                untagged = namespaces.run("a", "arping", "-c", "1", "-w", "1", "-I", trunk, "-s", "10.77.9.254", "10.77.0.1")
                check(untagged.returncode == 1 and "Received 0 response" in untagged.stdout, "and outside it does not")
            namespaces.ip("a", "link", "set", namespaces.link("a", "b"), "mtu", "1460")
            with Peer(namespaces, "p", address="10.77.0.1/24", peer="10.78.0.2", gateway="10.77.0.254", vlan=42, **port | {"mode": "flood", "bytes": "1468"}) as peer:
                said = peer.says("warning port")
                check("more than 1460 bytes do not pass; set mtu = 1460" in said, said)
            with Peer(namespaces, "p", address="10.77.0.1/24", peer="10.78.0.2", **port) as peer:
                said = peer.says("error")
                check("10.78.0.2 is not in the network of port" in said, said)


@scenario
def what_is_said_of_jumbo_frames_over_af_packet_works():
    """Frames too short for mtu = 9000 are refused; with those that the message names packets of every size come back."""
    need_root()
    with Namespaces() as namespaces:
        link, other = namespaces.link("p", "a"), namespaces.link("a", "p")
        for host, each in (("p", link), ("a", other)):
            namespaces.ip(host, "link", "set", each, "mtu", "9000")
        namespaces.ip("a", "addr", "add", "10.77.0.2/24", "dev", other)
        port = {"name": f"jumbo{namespaces.tag}", "mode": "echo", "mtu": 9000, "address": "10.77.0.1", "peer": "10.77.0.2"}
        device = f"net_af_packet0,iface={link}"
        with Peer(namespaces, "p", vdev=f"{device},framesz=2048", **port) as peer:
            peer.says("error")
            said = peer.says("  to do")
            check("set framesz=9088,blocksz=290816 there" in said, said)
        with Peer(namespaces, "p", vdev=f"{device},framesz=9088,blocksz=290816", **port) as peer:
            peer.says("up")
            answered = echoes(namespaces, "a", "10.77.0.2", "10.77.0.1", (1, 1472, 8972))
            check(answered is True, f"frames of every size come back{'' if answered is True else f': {answered}'}")


@scenario
def tap_and_ring_carry_frames():
    """net_tap, whose other end is the kernel's; net_ring, which loops back; and a ring that nobody empties: its transmit queue is reset, and it carries frames again."""
    need_root()
    with Namespaces() as namespaces:
        tap = f"sltap{namespaces.tag}"
        with Peer(namespaces, "p", name=f"tap{namespaces.tag}", mode="echo", vdev=f"net_tap0,iface={tap}", address="10.77.0.1", peer="10.77.0.2") as peer:
            peer.says("ready")
            namespaces.ip("p", "addr", "add", "10.77.0.2/24", "dev", tap)
            peer.says("up")
            answered = echoes(namespaces, "p", "10.77.0.2", "10.77.0.1", (1, 100, 1472))
            check(answered is True, f"net_tap: frames of every size come back{'' if answered is True else f': {answered}'}")
            check(namespaces.pings("p", "10.77.0.1"), "and a ping")
        with Peer(namespaces, "p", name=f"tap{namespaces.tag}", vdev=f"net_tap0,iface={tap}", mtu=9000, address="10.77.0.1", peer="10.77.0.2") as peer:
            check("tap carries no packets of mtu = 9000" in peer.says("error"), "net_tap: longer frames are refused")
        ring = {"vdev": "net_ring0", "mode": "ping", "address": "10.77.0.1", "peer": "10.77.0.1", "bytes": "64,8000", "mtu": 9000}
        with Peer(namespaces, "p", name=f"ring{namespaces.tag}", count=20000, **ring) as peer:
            check(True, f"net_ring: {peer.says('ping ok')}")
        with Peer(namespaces, "p", name=f"ring{namespaces.tag}", count=20000, shared="yes", **ring) as peer:
            check(peer.says("offloads") == "offloads chained", "net_ring takes chained buffers")
            check(True, f"and loops them back: {peer.says('ping ok')}")
        with Peer(namespaces, "p", name=f"ring{namespaces.tag}", count=1000, deaf="yes", **ring) as peer:
            peer.says("stalled")
            peer.says("down")  # While it is started anew.
            check(True, f"net_ring after a stall: {peer.says('ping ok')}")
            peer.says("ended")
            check([line.split()[-1] for line in peer.lines if line.startswith("got")][-1] == "1", "it was counted once")


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.77.0.2", 7650))
while True:
    frame, sender = s.recvfrom(65535)
    s.sendto(frame, sender)
"""

# UDP packets to the peer, past the kernel's own IP: one whose IPv4 checksum is wrong, then one whose is right. Arguments: interface, MAC address, a tag.
RAW = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for wrong in (1, 0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 128, 7, 0x4000, 64, 17, 0, socket.inet_aton("10.77.0.2"), socket.inet_aton("10.77.0.1"))
    total = sum(struct.unpack("!10H", head))
    checksum = ~((total & 0xffff) + (total >> 16)) & 0xffff ^ wrong
    head = head[:10] + struct.pack("!H", checksum) + head[12:]
    s.send(bytes.fromhex(sys.argv[2].replace(":", "")) + bytes(6) + bytes.fromhex(sys.argv[3]) + b"\\x08\\x00" + head + struct.pack("!HHHH", 7650, 7650, 108, 0) + bytes(100))
"""


def told(peer):
    """The peer's latest counters."""
    words = [line for line in peer.lines if line.startswith("got")][-1].split()
    return {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}


@scenario
def what_a_device_offers_is_used():
    """Payloads in chained buffers that two peers share, IPv4's checksum by the device, flow rules: where a device offers them, and in software where not; the other end is the kernel's."""
    need_root()
    with Namespaces() as namespaces:
        link, other, tap = namespaces.link("p", "a"), namespaces.link("a", "p"), f"sltap{namespaces.tag}"
        namespaces.ip("a", "addr", "add", "10.77.0.2/24", "dev", other)
        tap_offers = ("chained", "write_checksum", "check_checksum")
        devices = (
            (f"net_af_packet0,iface={link},framesz=9088,blocksz=290816", "a", other, ("chained",), 9000),
            (f"net_af_xdp0,iface={link}", "a", other, (), 1500),
            (f"net_tap0,iface={tap}", "p", tap, tap_offers, 1500),
        )
        for vdev, host, interface, offers, mtu in devices:
            for end, each in (("p", link), ("a", other)):
                namespaces.ip(end, "link", "set", each, "mtu", str(mtu))
            for choice in ("auto", "none"):
                port = {"vdev": vdev, "name": f"offloads{namespaces.tag}", "address": "10.77.0.1", "peer": "10.77.0.2", "mtu": mtu, "offloads": choice}
                with Peer(namespaces, "p", mode="ping", count=2000, bytes=f"9,1472,{mtu - 28}", shared="yes", **port) as peer:
                    used = set(peer.says("offloads").split()[1:])
                    # Flow rules need a kernel with tc's flower.
                    check(used - {"steering"} == set(offers if choice == "auto" else ()), f"{vdev} with offloads {choice}: {' '.join(sorted(used)) or 'none'}")
                    if interface == tap:
                        namespaces.ip("p", "addr", "add", "10.77.0.2/24", "dev", tap)
                    echo = subprocess.Popen(namespaces.command(host, "/usr/bin/python3", "-c", ECHO))
                    try:
                        check(True, f"every byte of 2 x 2000 frames came back: {peer.says('ping ok', 30)}")
                        chained = int(peer.says("chained").split()[1])
                        check((chained > 0) == ("chained" in used), f"{chained} packets were chained")
                    finally:
                        echo.kill(), echo.wait()
                with Peer(namespaces, "p", mode="listen", **port) as peer:
                    peer.says("ready")
                    if interface == tap:
                        namespaces.ip("p", "addr", "add", "10.77.0.2/24", "dev", tap)
                    peer.says("up")
                    namespaces.run(host, "/usr/bin/ping", "-c", "1", "-W", "3", "10.77.0.1")
                    mac = namespaces.run(host, "ip", "neigh", "show", "10.77.0.1").stdout.split("lladdr ")[1].split()[0]
                    done = namespaces.run(host, "/usr/bin/python3", "-c", RAW, interface, mac, "")
                    check(done.returncode == 0, done.stderr or "sent a packet with a wrong checksum and one with a right one")
                    wait_for("the right one to arrive", lambda: told(peer)["got"] > 0)
                    check(told(peer)["got"] == 1, f"the wrong one did not: {told(peer)}")


@scenario
def the_default_routes_nic_is_refused():
    """However a port names it; and the host keeps it."""
    need_root()
    with Namespaces() as namespaces, Cluster(replicas=("a",), policy="ANY 1 (a)", kernel_udp=("a",)) as cluster:
        cluster.write_configs()
        link = namespaces.link("p", "a")
        namespaces.ip("p", "addr", "add", "10.77.0.1/24", "dev", link)
        namespaces.ip("p", "route", "add", "default", "via", "10.77.0.2")
        namespaces.give_replica_to_the_kernel()
        mac = namespaces.run("p", "cat", f"/sys/class/net/{link}/address").stdout.strip()
        for name in (f'vdev = "net_af_packet0,iface={link}"', f'vdev = "net_af_xdp0,iface={link}"', f'interface = "{link}"', f'mac = "{mac}"'):
            config = changed(cluster, "p", "kernel_udp = true", name)
            for command in (["run"], ["config", "check", "--connect"]):
                done = namespaces.run("p", SLIPSTREAM, *command, "-c", config)
                said = done.stderr + done.stdout
                check(done.returncode == 6 and f"{link} carries this host's default route" in said and "kernel_udp" in said, f"{' '.join(command)}, {name}: {' '.join(done.stderr.split())[:200]}")
        check(namespaces.pings("a", "10.77.0.1"), "the host is reached as before")
        namespaces.ip("p", "route", "del", "default")
        done = namespaces.run("p", SLIPSTREAM, "config", "check", "--connect", "-c", changed(cluster, "p", "kernel_udp = true", f'interface = "{link}"'))
        check(done.returncode == 4, "without that route it may be a port: the next to be missed is PostgreSQL")
