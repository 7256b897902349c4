"""`slipstream bench`: each runs, measures and leaves nothing behind."""

import json
import tempfile
from pathlib import Path

from cluster import SLIPSTREAM, Cluster, run
from scenario import check, refused, scenario


def bench(*arguments):
    return json.loads(run(SLIPSTREAM, "bench", *arguments, "--json", timeout=120).stdout)


def check_form(out, name):
    check(out["benchmark"] == name and out["machine"]["cores"] > 0 and out["configuration"], f"{name} says what it measured on: {out}")
    for goal in out["goals"]:
        check(set(goal) == {"name", "goal", "floor", "measured", "met", "runs"}, f"a goal of {name} is complete: {goal}")


@scenario
def benchmarks_of_the_ports_run():
    """lag and linerate over memif between two processes, into a log, memory and nowhere; nothing is left behind."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)  # The programs run as PostgreSQL's user.
        lag = bench("lag", "--rate", "200", "2000", "--size", "200", "8192", "--seconds", "0.5", "--directory", directory)
        check_form(lag, "lag")
        check(len(lag["results"]) == 4, f"each rate with each size: {lag['results']}")
        for each in lag["results"]:
            received, durable = each["received_us"], each["durable_us"]
            check(0 < received["p50"] <= received["p99"] <= received["p99.9"] <= received["max"], f"quantiles of received: {each}")
            check(received["p50"] <= durable["p50"], f"durable follows received: {each}")
            check(each["achieved_rate"] > each["rate"] / 10, f"the load was near its rate: {each}")
        lossy = bench("lag", "--rate", "200", "--size", "200", "--seconds", "1", "--loss", "0.2", "--directory", directory)["results"][0]
        check(lossy["repaired"] > 5 and lossy["repaired_us"]["p50"] > lossy["received_us"]["p50"] > 0, f"what was lost is told apart: {lossy}")
        line = bench("linerate", "--mb", "64", "--rounds", "1", "--directory", directory)
        check_form(line, "linerate")
        check({(each["mtu"], each["sink"]) for each in line["results"]} == {(mtu, sink) for mtu in (1500, 8900) for sink in ("raw", "discard", "memory", "disk")}, f"each frame size with each sink: {line['results']}")
        check(all(each["gb_per_s"] > 0 for each in line["results"]), f"something went through: {line['results']}")
        line = bench("linerate", "--mb", "32", "--rounds", "1", "--mtu", "1500", "--sinks", "memory", "--device", "kernel_udp", "--directory", directory)
        check({each["sink"]: each["gb_per_s"] > 0 for each in line["results"]} == {"raw": True, "tcp": True, "memory": True}, f"kernel UDP beside TCP: {line['results']}")
        check(not list(Path(directory).iterdir()), f"left behind: {list(Path(directory).iterdir())}")
    left = [path for parent in ("/dev/shm", "/tmp") for path in Path(parent).glob("slipstream-bench-*")]
    check(not left, f"left behind: {left}")


@scenario
def benchmark_of_commits_runs():
    """Levels beside each other on a live cluster; the table is gone afterwards. What cannot be is said."""
    with Cluster() as cluster:
        cluster.start()
        conninfo = cluster.primary.conninfo
        out = bench("commit", "--primary", conninfo, "--beside", conninfo, "--clients", "1", "4", "--levels", "local", "on", "--seconds", "0.3", "--rounds", "2")
        check_form(out, "commit")
        ours = {(each["clients"], each["level"]): each for each in out["results"] if each["server"] == "primary"}
        check(set(ours) == {(1, "local"), (1, "on"), (4, "local"), (4, "on")}, f"each level with each number of clients: {out['results']}")
        check(all(each["tps"] > 0 and 0 < each["p50_us"] <= each["p99_us"] for each in ours.values()), f"commits were measured: {ours}")
        check(ours[1, "on"]["p50_us"] > ours[1, "local"]["p50_us"], f"replicas are waited for: {ours}")
        check(cluster.primary.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'slipstream_bench_commit'") == "0", "the table is gone")
        replica, primary = cluster.config_path("a"), cluster.config_path("p")
        refused(3, "a replica's configuration receives", "bench receive", arguments=("bench", "lag", "-c", replica))
        refused(3, "a primary's configuration sends", arguments=("bench", "receive", "-c", primary))
        refused(2, "tape", arguments=("bench", "linerate", "--sinks", "tape"))
        refused(4, "connection", arguments=("bench", "commit", "--primary", "host=/nowhere"))
