"""What commits feel while one of the hosts is flooded with handshakes: TPS under a flood beside TPS without, in turn (A B A B …).

A primary and a replica, sealed, reached through the kernel, level on, quorum ANY 1 (b). The flood: requests and openings of a key exchange, half of them captured from the real one, the others
random, to both hosts' ports, at a given rate. The flooder shares the machine with everything else: what it costs itself is measured with the same flood at a port where nobody listens.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
from commit import measure  # noqa: E402
from cluster import Cluster  # noqa: E402
from scenarios_sealing import PORT, Capture, first_frame_bytes  # noqa: E402

KEY_REQUEST, KEY_OPEN = 16, 18
BURST_S = 0.002


def handshakes(cluster):
    """The frames of a real key exchange."""
    capture = Capture(cluster.loopback)
    cluster.daemons["p"].stop()
    cluster.start_daemon("p")
    cluster.wait_streaming()
    frames = [frame[:first_frame_bytes(frame)] for _, _, frame in capture.stop()]
    return [frame for frame in frames if frame[3] in (KEY_REQUEST, KEY_OPEN)]


class Flood:
    def __init__(self, cluster, frames, rate, port):
        self.targets = [(f"{cluster.loopback}.{number}", port) for number in (1, 2)]
        self.frames = frames + [frame[:112] + os.urandom(len(frame) - 112) for frame in frames]
        self.rate, self.sent, self.running = rate, 0, True
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in self.targets]
        for end, (address, _) in zip(self.sockets, reversed(self.targets)):
            end.bind((address, 0))  # As if it came from the other host.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        begin = time.time()
        while self.running:
            while self.sent < (time.time() - begin) * self.rate:
                try:
                    self.sockets[self.sent % 2].sendto(self.frames[self.sent // 2 % len(self.frames)], self.targets[self.sent % 2])
                except ConnectionRefusedError:
                    pass
                self.sent += 1
            time.sleep(BURST_S)

    def stop(self):
        self.running = False
        self.thread.join()
        for end in self.sockets:
            end.close()
        return self.sent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 10000], help="handshake frames a second")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each round and side")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.umask(0o022)
    out = {"clients": options.clients, "rounds": options.rounds, "results": []}
    with Cluster(replicas=("b",), policy="ANY 1 (b)", kernel_udp=("b",)) as cluster:
        cluster.start()
        frames = handshakes(cluster)

        def tps(rate, port):
            flood = Flood(cluster, frames, rate, port)
            try:
                return measure(cluster, options.clients, options.seconds)["tps"]
            finally:
                flood.stop()

        for rate in options.rates:
            rounds = [(tps(rate, PORT + 1), tps(rate, PORT)) for _ in range(options.rounds)]
            result = {"frames_per_second": rate, "tps_elsewhere": round(statistics.median(a for a, _ in rounds), 1), "tps_flooded": round(statistics.median(b for _, b in rounds), 1),
                      "ratio": round(statistics.median(b / a for a, b in rounds), 3)}
            out["results"].append(result)
            print(f"{rate} handshake frames a second: TPS {result['tps_elsewhere']:.0f} with the flood elsewhere, {result['tps_flooded']:.0f} under it (ratio {result['ratio']})", flush=True)
        out["refused"] = {name: cluster.status(name)["frames"] for name in ("p", "b")}
        if not out["refused"]["b"].get("bad_cookie"):
            sys.exit("the flood did not arrive")
        print(f"refused: {out['refused']}")
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
