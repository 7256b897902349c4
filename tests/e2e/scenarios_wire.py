"""What others see of a DPDK port on the wire, by their own programs: tshark, ping, arping."""

import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from cluster import wait_for
from namespaces import Namespaces, PacketCluster, need_root
from scenario import check, identical, scenario

MARKER = "nobody-on-the-wire-may-read-this-"
VLAN = 42


class Capture:
    """All that passes an interface, in a file."""

    def __init__(self, namespaces, host, interface):
        self.directory = tempfile.TemporaryDirectory(prefix="slip-wire-")  # dumpcap gives up root's right to write elsewhere.
        self.path = path = Path(self.directory.name) / "wire.pcapng"
        self.process = subprocess.Popen(namespaces.command(host, "dumpcap", "-q", "-B", "64", "-i", interface, "-w", path), stderr=subprocess.PIPE, text=True)
        wait_for("the capture to begin", lambda: path.exists() and path.stat().st_size > 0, 20)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.said = self.process.communicate(timeout=20)[1]

    def packets(self):
        """What Wireshark makes of each packet: these fields, "" where it has none."""
        fields = ("frame.protocols", "vlan.id", "ip.src", "udp.srcport", "ip.checksum.status", "udp.checksum", "udp.length", "ip.flags.df",
                  "arp.isgratuitous", "arp.src.proto_ipv4", "_ws.malformed")
        command = ["tshark", "-r", self.path, "-o", "ip.check_checksum:TRUE", "-T", "fields", *(part for field in fields for part in ("-e", field))]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        check(done.returncode == 0, f"tshark reads the capture {done.stderr.strip()[:200] if done.returncode else ''}")
        return [dict(zip(fields, line.split("\t"))) for line in done.stdout.splitlines()]


@scenario
def what_is_on_the_wire():
    """A capture between a primary on a DPDK port in a VLAN and a replica on the kernel's UDP: well-formed packets, good checksums, nothing of the WAL; the port announces itself and answers its neighbours."""
    need_root()
    with Namespaces() as namespaces:
        trunk = namespaces.link("a", "p")
        vlan = namespaces.add_vlan("a", trunk, VLAN, "10.77.0.2/24")
        PacketCluster.namespaces, PacketCluster.on_kernel_udp = namespaces, ["client"]
        PacketCluster.device = "{link}"  # The port is named by its interface.
        PacketCluster.primary_network = f"vlan = {VLAN}\n"
        with PacketCluster(policy="ANY 1 (a)", replicas=("a",)) as cluster:
            cluster.start()
            cluster.daemons["p"].stop()
            capture = Capture(namespaces, "a", trunk)  # Of a start, and little of catching up.
            cluster.start_daemon("p")
            cluster.wait_streaming()
            before = int(cluster.primary.sql("SELECT pg_current_wal_lsn() - '0/0'"))
            cluster.primary.sql(f"CREATE TABLE secrets AS SELECT g, '{MARKER}' || g AS text FROM generate_series(1, 20000) g", timeout=60)
            wal_bytes = int(cluster.primary.sql("SELECT pg_current_wal_lsn() - '0/0'")) - before
            identical(cluster)
            for size in (56, 1472):
                check(namespaces.pings("a", "10.77.0.1", size), f"a ping of {size} bytes is answered")
            check(namespaces.run("a", "arping", "-c", "2", "-w", "5", "-I", vlan, "10.77.0.1").returncode == 0, "arping is answered")
            ports = cluster.status("p")["ports"]
            check(ports[0]["up"] and ports[0]["sent"] > 1000 and ports[0]["stalls"] == 0, f"status counts the port's packets: {ports}")
            capture.stop()
            read(capture, wal_bytes)


def read(capture, wal_bytes):
    packets = capture.packets()
    frames = [each for each in packets if each["ip.src"] == "10.77.0.1" and each["udp.srcport"] == "7650"]
    kinds = Counter((each["frame.protocols"], each["vlan.id"], each["ip.checksum.status"], each["udp.checksum"]) for each in frames)
    good = {("eth:ethertype:vlan:ethertype:ip:udp:data", str(VLAN), "1", "0x0000")}
    check(len(frames) > 1000 and set(kinds) == good, f"{len(frames)} frames: Ethernet, VLAN {VLAN}, IPv4 with a good checksum, UDP without one: {dict(kinds)}")
    check(all(each["ip.flags.df"] in ("1", "True") for each in frames), "none may be fragmented on its way")
    carried = sum(int(each["udp.length"]) - 8 for each in frames)
    check(carried > wal_bytes, f"they carried {carried} bytes, more than the {wal_bytes} of WAL")
    bad = [each for each in packets if each["_ws.malformed"] or each["ip.checksum.status"] == "0"]
    check(not bad, f"no packet at all is malformed {bad[:3] or ''}")
    check(MARKER.encode() not in capture.path.read_bytes(), "and nothing of the WAL can be read in any")
    own = [each for each in packets if "10.77.0.1" in (each["ip.src"], each["arp.src.proto_ipv4"])]
    check(own[0]["arp.isgratuitous"] in ("1", "True"), "the port announced itself (gratuitous ARP) before it sent anything else")
