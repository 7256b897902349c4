"""What commits feel while a replica that was away catches up: PostgreSQL's own standbys beside Slipstream, on the same machine, one after the other.

Both sides have one primary, two hot standbys and the quorum ANY 1 (a, b). b is away while a given amount of WAL is written; then it comes back under a load whose commits a
acknowledges. Shown are the commits' latencies before, while b catches up, and once it has, and the ratio of the p99 while it catches up to that before.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from commit import NativeCluster  # noqa: E402
from cluster import Cluster, IdLoad, parse_lsn, quantile  # noqa: E402

SETTINGS = {"max_wal_size": "16GB", "max_slot_wal_keep_size": "16GB", "wal_keep_size": "16GB"}


class Native(NativeCluster):
    def stop_b(self):
        self.standbys["b"].stop()

    def start_b(self):
        self.standbys["b"].start(wait=False)


class Ours(Cluster):
    def stop_b(self):
        self.daemons["b"].stop()

    def start_b(self):
        self.start_daemon("b")


def write_wal(cluster, megabytes):
    """Returns once the remaining standby has replayed it and a checkpoint is over."""
    cluster.primary.sql("CREATE TABLE big (filler text)")
    begin = parse_lsn(cluster.flush_position())
    while parse_lsn(cluster.flush_position()) - begin < megabytes << 20:
        cluster.primary.sql("INSERT INTO big SELECT repeat('w', 500) FROM generate_series(1, 60000)", timeout=300)
    cluster.wait_replayed(cluster.flush_position(), ["a"], 300)
    cluster.primary.sql("CHECKPOINT", timeout=300)


def figures(load, begin, end):
    latencies = load.latencies_us(begin, end)
    return {"seconds": round(end - begin, 1), "tps": round(len(latencies) / (end - begin)), "p50_us": quantile(latencies, 0.5), "p99_us": quantile(latencies, 0.99)}


def measure(cluster, options):
    cluster.start()
    cluster.stop_b()
    write_wal(cluster, options.megabytes)
    load = IdLoad(cluster, options.clients, 600)
    time.sleep(2)
    before = time.time()
    time.sleep(options.seconds)
    begin = time.time()
    cluster.start_b()
    # All that had been written before: what came since follows at once.
    cluster.wait_replayed(cluster.flush_position(), ["b"], 500)
    end = time.time()
    time.sleep(options.seconds)
    after = time.time()
    load.end()
    out = {"before": figures(load, before, begin), "catching_up": figures(load, begin, end), "after": figures(load, end, after)}
    out["ratio_p99"] = round(out["catching_up"]["p99_us"] / out["before"]["p99_us"], 2)
    if load.lost(cluster.primary):
        raise SystemExit("acknowledged commits are missing")
    load.remove()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024, help="of WAL while b is away (default 1024)")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=8, help="of load before and after")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.umask(0o022)
    out = {"megabytes": options.megabytes, "clients": options.clients}
    for name, make in (("postgresql", Native), ("slipstream", Ours)):
        with make(settings=SETTINGS) as cluster:
            out[name] = measure(cluster, options)
        print(name)
        for phase in ("before", "catching_up", "after"):
            each = out[name][phase]
            print(f"  {phase:11}  {each['seconds']:6} s  {each['tps']:6} commits/s  p50 {each['p50_us']:6} us  p99 {each['p99_us']:6} us")
        print(f"  p99 while b catches up: {out[name]['ratio_p99']} times that before", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
