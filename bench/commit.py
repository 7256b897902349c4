"""Commit latency and TPS: PostgreSQL's own synchronous standbys beside Slipstream, on the same machine in one run, in turn (A B A B …).

Both sides have one primary and two hot standbys with quorum ANY 1. Medians over the rounds; the ratio is taken round by round.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))
from cluster import PG_BIN, Cluster, IdLoad, Postgres, quantile, run, wait_for  # noqa: E402


class NativeCluster(Cluster):
    """PostgreSQL's own streaming to the same number of standbys; no Slipstream."""

    def start(self):
        self.start_primary()
        for name, standby in self.standbys.items():
            run(PG_BIN / "pg_basebackup", "-d", self.primary.conninfo, "-D", standby.data, "-X", "stream", "-c", "fast", "-R", timeout=300)
            with open(standby.data / "postgresql.auto.conf", "a") as conf:
                conf.write(f"port = {standby.port}\nprimary_conninfo = '{self.primary.conninfo} application_name={name}'\nsynchronous_standby_names = ''\n")
            standby.start(wait=False)
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{self.policy}'")
        self.primary.sql("SELECT pg_reload_conf()")
        wait_for("both standbys to stream", lambda: self.primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "2", 60)


def measure(cluster, clients, seconds):
    load = IdLoad(cluster, clients, seconds)
    begin = time.time() + 0.5
    load.wait(seconds + 30)
    latencies = load.latencies_us(after=begin)
    load.remove()
    return {"tps": len(latencies) / (seconds - 0.5), "p50_us": quantile(latencies, 0.5), "p99_us": quantile(latencies, 0.99)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--level", default="on", choices=["remote_write", "on", "remote_apply"])
    parser.add_argument("--ship", default="flushed", choices=["flushed", "written"], help="primary.ship")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each round and side")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.umask(0o022)
    out = {"level": options.level, "ship": options.ship, "rounds": options.rounds, "results": []}
    with NativeCluster(level=options.level, base_port=5540) as native, Cluster(level=options.level, base_port=5440, ship=options.ship) as ours:
        native.start()
        ours.start()
        for clients in options.clients:
            rounds = [(measure(native, clients, options.seconds), measure(ours, clients, options.seconds)) for _ in range(options.rounds)]
            result = {"clients": clients}
            for key in ("tps", "p50_us", "p99_us"):
                result[f"postgresql_{key}"] = round(statistics.median(n[key] for n, _ in rounds), 1)
                result[f"slipstream_{key}"] = round(statistics.median(s[key] for _, s in rounds), 1)
                result[f"ratio_{key}"] = round(statistics.median(s[key] / n[key] for n, s in rounds), 3)
            out["results"].append(result)
            print(f"{clients:>3} clients, {options.level}: p50 {result['postgresql_p50_us']:.0f} us -> {result['slipstream_p50_us']:.0f} us (ratio {result['ratio_p50_us']}),"
                  f" p99 ratio {result['ratio_p99_us']}, TPS {result['postgresql_tps']:.0f} -> {result['slipstream_tps']:.0f} (ratio {result['ratio_tps']})", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
