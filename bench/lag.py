"""Replication lag as PostgreSQL itself measures it (pg_stat_replication), at paced loads: its own standbys beside Slipstream, on the same machine in one run, in turn (A B A B …).

Both sides have one primary and two hot standbys. Commits wait for their local flush only (level local), so that lag is not hidden in them. Each walsender notes when it sent what, and when a reply covered it; both sides are sampled every 5 ms
in the same way. Slipstream has one walsender, which reports what the policy's quorum (ANY 2: both replicas) has; PostgreSQL's own are shown as the slower of the two. `applied` at this level may be told up to a millisecond late
by Slipstream (docs/decisions). Beside that what Slipstream's status says of each replica, which begins when PostgreSQL's stream announces the bytes.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from commit import NativeCluster  # noqa: E402
from cluster import Cluster, IdLoad  # noqa: E402

STAGES = ("write", "flush", "replay")
SAMPLES = """
CREATE TEMP TABLE samples AS SELECT max(write_lag) AS write, max(flush_lag) AS flush, max(replay_lag) AS replay FROM pg_stat_replication WHERE false;
DO $$
DECLARE until timestamptz := clock_timestamp() + '{seconds} s';
BEGIN
  PERFORM pg_sleep(1);  -- What the idle time before left behind.
  WHILE clock_timestamp() < until LOOP
    PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
    INSERT INTO samples SELECT max(write_lag), max(flush_lag), max(replay_lag) FROM pg_stat_replication;
  END LOOP;
END $$;
SELECT {columns} FROM samples;
"""
COLUMN = "round(1e6 * extract(epoch FROM percentile_disc({q}) WITHIN GROUP (ORDER BY {stage})))"


def sample(cluster, rate, seconds):
    """{stage: (p50, p99)} in microseconds."""
    load = IdLoad(cluster, 4, seconds + 2, rate=rate)
    columns = ", ".join(COLUMN.format(q=q, stage=stage) for stage in STAGES for q in (0.5, 0.99))
    row = cluster.primary.sql(SAMPLES.format(seconds=seconds, columns=columns), timeout=seconds + 30).splitlines()[-1].split("|")
    load.wait(30)
    load.remove()
    values = [float(value or "nan") for value in row]
    return {stage: (values[2 * i], values[2 * i + 1]) for i, stage in enumerate(STAGES)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[100, 1000], help="commits a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each round and side")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.umask(0o022)
    out = {"rounds": options.rounds, "results": []}
    with NativeCluster(level="local", policy="ANY 2 (a, b)", base_port=5540) as native, Cluster(level="local", policy="ANY 2 (a, b)", base_port=5440) as ours:
        native.start()
        ours.start()
        for rate in options.rates:
            rounds = [(sample(native, rate, options.seconds), sample(ours, rate, options.seconds)) for _ in range(options.rounds)]
            result = {"commits_per_second": rate}
            for stage in STAGES:
                for i, quantile in enumerate(("p50", "p99")):
                    result[f"postgresql_{stage}_{quantile}_us"] = statistics.median(n[stage][i] for n, _ in rounds)
                    result[f"slipstream_{stage}_{quantile}_us"] = statistics.median(s[stage][i] for _, s in rounds)
                    result[f"ratio_{stage}_{quantile}"] = round(statistics.median(s[stage][i] / n[stage][i] for n, s in rounds), 2)
            result["status_lag_us"] = {view["name"]: view["lag_us"] for view in ours.status("p")["primary"]["replicas"]}
            out["results"].append(result)
            for stage in STAGES:
                print(f"{rate:>6} commits/s, {stage:<6} lag: p50 {result[f'postgresql_{stage}_p50_us']:.0f} us -> {result[f'slipstream_{stage}_p50_us']:.0f} us (ratio {result[f'ratio_{stage}_p50']}),"
                      f" p99 {result[f'postgresql_{stage}_p99_us']:.0f} us -> {result[f'slipstream_{stage}_p99_us']:.0f} us (ratio {result[f'ratio_{stage}_p99']})", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
