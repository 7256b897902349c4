"""Frames are sealed: nobody on the network can read them, forge them or play them again."""

import os
import random
import shutil
import socket
import struct
import threading
import time

from cluster import PG_USER, Cluster, IdLoad, wait_for
from scenario import changed, check, identical, refusal, refused, scenario

MARKER = "nobody-else-may-read-this-"
PORT = 7650
HEADER = 112


class Capture:
    """Every datagram of ours that goes over the loopback interface to or from one network, as tcpdump would see it."""

    def __init__(self, network):
        self.network = socket.inet_aton(network + ".0")[:3]
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind(("lo", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        self.socket.settimeout(0.2)
        self.frames, self.running = [], True  # (source address, destination address, frame)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while self.running:
            try:
                packet, where = self.socket.recvfrom(1 << 16)
            except socket.timeout:
                continue
            if where[2] == socket.PACKET_OUTGOING:  # On loopback each is seen twice.
                continue
            ip = packet[14:]
            if len(ip) < 28 or ip[0] != 0x45 or ip[9] != socket.IPPROTO_UDP or ip[12:15] != self.network:
                continue
            if struct.unpack("!H", ip[22:24])[0] == PORT:
                self.frames.append((socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20]), ip[28:]))

    def stop(self):
        self.running = False
        self.thread.join()
        self.socket.close()
        return self.frames


def write_markers(cluster):
    cluster.primary.sql(f"CREATE TABLE secrets AS SELECT g, '{MARKER}' || g AS text FROM generate_series(1, 20000) g", timeout=60)


def seen(frames):
    return sum(MARKER.encode() in frame for _, _, frame in frames)


def replay(frames, to):
    """Sends what went to `to` once more, from where it came."""
    own = {}
    for source, destination, frame in frames:
        if destination != to:
            continue
        if source not in own:
            own[source] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            own[source].bind((source, 0))
        # What the kernel joined for the capture is several frames: cut them again.
        while frame:
            size = first_frame_bytes(frame)
            own[source].sendto(frame[:size], (to, PORT))
            frame = frame[size:]
            time.sleep(0.00002)


def counted(cluster, name, verdict):
    status = cluster.status(name)
    return status["frames"].get(verdict, 0) if status else 0


def first_frame_bytes(frame):
    """The length of the first frame in `frame`: its header's and its payload's."""
    if len(frame) < HEADER or frame[:2] != b"SL":
        return len(frame)
    header, payload = struct.unpack("<H", frame[6:8])[0], struct.unpack("<I", frame[60:64])[0]
    return min(len(frame), header + payload)


@scenario
def frames_are_sealed():
    """A capture of the network shows no WAL, in plaintext it would; played again, also to a restarted replica, it changes nothing but counters."""
    for security in ("plaintext", "sealed"):
        with Cluster(replicas=("b",), policy="ANY 1 (b)", kernel_udp=("b",), security=security) as cluster:
            cluster.start()
            capture = Capture(cluster.loopback)
            cluster.daemons["p"].stop()  # So that the handshake is captured, too.
            cluster.start_daemon("p")
            cluster.wait_streaming()
            write_markers(cluster)
            cluster.wait_replayed(cluster.flush_position())
            frames = capture.stop()
            check(len(frames) > 100, f"{len(frames)} packets of the {security} stream were captured")
            check(cluster.status("b")["security"] == security, f"status says {security}")
            if security == "plaintext":
                check(seen(frames) > 20, f"{seen(frames)} of them show the WAL: the capture can tell")
                continue
            check(seen(frames) == 0, "none of them shows any of the WAL")

            to = f"{cluster.loopback}.2"
            replay(frames, to)
            wait_for("the replica to have refused the capture", lambda: counted(cluster, "b", "replayed") > 100, 10)
            cluster.daemons["b"].stop()
            cluster.start_daemon("b")
            wait_for("b to be up", lambda: cluster.status("b"), 20)
            replay(frames, to)
            wait_for("the restarted replica to have refused it", lambda: counted(cluster, "b", "unknown_key") > 100, 10)
            check(counted(cluster, "b", "bad_cookie") > 0, f"each refusal is counted under its name: {cluster.status('b')['frames']}")
            cluster.wait_streaming()
            cluster.primary.sql("CREATE TABLE after_it (i int)", timeout=30)
            identical(cluster)


@scenario
def rekeys_under_loss_stall_nothing():
    """New keys every 1,000 packets, 5 % of the frames lost, some doubled, late or damaged: commits go on."""
    faults = {"loss": 0.05, "duplicate": 0.01, "reorder": 0.02, "corrupt": 0.001, "seed": random.randrange(1 << 30)}
    print(f"  seed {faults['seed']}")
    with Cluster(policy="ANY 2 (a, b)", faults=faults, rekey_packets=1000) as cluster:
        cluster.start()
        load = IdLoad(cluster, 4, 8)
        cluster.primary.sql("SET synchronous_commit = local; CREATE TABLE big AS SELECT g, repeat('u', 500) FROM generate_series(1, 100000) g", timeout=120)
        load.wait(60)
        frames = {view["name"]: view["frames_sent"] for view in cluster.status("p")["primary"]["replicas"]}
        check(min(frames.values()) > 20_000, f"the keys changed dozens of times: {frames} frames")
        once = cluster.status("p")["frames_sealed_once"]
        check(once > 1000, f"the data of {once} frames had been sealed for the other replica already")
        for name in cluster.names:
            check(counted(cluster, name, "forged") > 0, f"damaged frames are refused: {cluster.status(name)['frames']}")
            check(counted(cluster, name, "unknown_key") < 1000, "no generation of keys was missed")
        slowest = max(load.latencies_us())
        check(slowest < 3_000_000, f"beside a bulk load the slowest of {len(load.latencies_us())} commits took {slowest / 1000:.0f} ms")
        identical(cluster)
        load.remove()


@scenario
def wrong_keys_are_named():
    """Keys that are missing, readable by others, or another host's: each is named, with what to do; a replica whose key changed counts again once all know it."""
    with Cluster(replicas=("a",), policy="ANY 1 (a)") as cluster:
        cluster.start()
        cluster.daemons["a"].stop()
        key = cluster.key_path("a")
        refusal(cluster, "a", 3, "[seal]", "keygen", "plaintext", config=changed(cluster, "a", f'[seal]\nhost_key = "{key}"\ncluster_key = "{cluster.key_path("cluster")}"\n', ""))
        refusal(cluster, "a", 3, "node \"p\" has no public_key", "keygen --show", config=changed(cluster, "a", f'public_key = "{cluster.public_keys["p"]}"\n', ""))
        refusal(cluster, "a", 3, "public_key", "44 characters", config=changed(cluster, "a", cluster.public_keys["p"], "abc"))
        refusal(cluster, "a", 3, "cannot read the key file", "keygen", config=changed(cluster, "a", str(key), str(key) + ".none"))
        refusal(cluster, "a", 3, "not the key whose public_key", config=changed(cluster, "a", str(key), str(cluster.key_path("p"))))
        key.chmod(0o640)
        refusal(cluster, "a", 3, "other users may read", "chmod 600")
        refused(3, "other users may read", "chmod 600", arguments=["config", "check", "-c", cluster.config_path("a")])
        key.chmod(0o600)
        spoilt = cluster.dir / "spoilt.key"
        spoilt.write_text("no key\n")
        spoilt.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(spoilt, PG_USER, PG_USER)
        refusal(cluster, "a", 3, "there is no key in this file", config=changed(cluster, "a", str(key), str(spoilt)))
        refused(5, "File exists", "never overwritten", arguments=["keygen", key])

        cluster.make_key("a")  # A new one, that the primary has not been told.
        cluster.write_config("a")
        cluster.start_daemon("a")
        wait_for("the primary's key exchange to be refused", lambda: counted(cluster, "a", "not_the_peer") > 0, 20)
        reason = wait_for("the primary to say so", lambda: (lambda said: said if "keygen --show" in said else None)(cluster.status("p")["primary"]["replicas"][0]["reason"]), 10)
        check("no keys can be agreed on" in reason, f"status of the primary: {reason}")
        cluster.write_config("p")
        cluster.daemons["p"].stop()
        cluster.start_daemon("p")
        cluster.wait_streaming()
        cluster.primary.sql("CREATE TABLE after_it (i int)", timeout=30)
        identical(cluster)
