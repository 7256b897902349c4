"""Demonstration: a PostgreSQL primary, two replicas over DPDK (memif), two hot standbys, and a load whose commits wait on the quorum.

One replica is killed and catches up; then the primary is lost for good and a replica is promoted with nothing missing.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))
from cluster import SLIPSTREAM, Cluster, Failure, IdLoad, parse_lsn, quantile, run, wait_for  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example:\n  scripts/demo --seconds 20 --policy 'ANY 2 (a, b)' --level remote_apply --json demo.json")
    parser.add_argument("--seconds", type=int, default=20, help="how long the load runs (default 20)")
    parser.add_argument("--clients", type=int, default=4, help="concurrent sessions of the load (default 4)")
    parser.add_argument("--policy", default="ANY 1 (a, b)", help="commit policy over the replicas a and b (default 'ANY 1 (a, b)')")
    parser.add_argument("--level", choices=["remote_write", "on", "remote_apply"], default="on", help="synchronous_commit (default on)")
    parser.add_argument("--json", metavar="FILE", help="write the measured figures to FILE")
    parser.add_argument("--keep", action="store_true", help="leave the cluster's directory behind")
    options = parser.parse_args()
    if options.seconds < 6 or options.clients < 1:
        parser.error("--seconds must be at least 6 and --clients at least 1")
    return options


class Screen:
    """A live view on a terminal, plain lines otherwise."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.drawn = 0

    def step(self, text):
        self.clear()
        print(f"\x1b[1m==>\x1b[0m {text}" if self.live else f"==> {text}", flush=True)

    def note(self, text):
        self.clear()
        print(f"    {text}", flush=True)

    def clear(self):
        if self.drawn:
            sys.stdout.write(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0

    def show(self, status, extra=""):
        if not status:
            return
        view = status["primary"]
        lines = [f"    flushed {view['flushed_end']:>12}   committed {view['committed']['durable']:>12}   {extra}"]
        for replica in view["replicas"]:
            behind = parse_lsn(view["flushed_end"]) - parse_lsn(replica["ends"]["durable"])
            lag = replica["lag_us"]
            lines.append(f"    {replica['name']:<4} {replica['state']:<12} durable {replica['ends']['durable']:>12}  applied {replica['ends']['applied']:>12}"
                         f"  behind {max(0, behind) / 1024:>9.1f} kB  lag p50 {lag['durable']['p50']:>7.0f} us durable, {lag['applied']['p50']:>7.0f} us applied")
        for sentence in view["waiting_for"]:
            lines.append(f"    commits wait: {sentence}")
        if self.live:
            self.clear()
            print("\n".join(lines), flush=True)
            self.drawn = len(lines)
        else:
            print(lines[0] + "".join(f"  |  {r['name']} {r['state']} {r['ends']['durable']}" for r in view["replicas"]), flush=True)


def watch(cluster, screen, seconds, extra=""):
    until = time.monotonic() + seconds
    while True:
        screen.show(cluster.status("p"), extra)
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(1.0, left))


def load_with_a_killed_replica(cluster, screen, options, result):
    """The load; meanwhile replica b is killed, comes back and catches up."""
    survives = "b" not in blocking_replicas(options.policy)
    wal_before = parse_lsn(cluster.flush_position())
    load = IdLoad(cluster, options.clients, options.seconds)
    begin = time.time()
    screen.step(f"load: {options.clients} pgbench clients for {options.seconds} s, synchronous_commit = {options.level}, policy {options.policy}")
    watch(cluster, screen, options.seconds * 0.4)
    quiet_end = time.time()
    screen.step("SIGKILL: replica b's daemon" + ("" if survives else " (the policy needs it: commits wait until it is back)"))
    cluster.daemons["b"].kill()
    watch(cluster, screen, options.seconds * 0.2)
    screen.step("replica b starts again and catches up")
    cluster.start_daemon("b")
    watch(cluster, screen, options.seconds * 0.2)
    load.wait(options.seconds + 30)
    cluster.wait_streaming()
    result["killed_replica_caught_up"] = True
    latencies = load.latencies_us(after=begin + 1, before=quiet_end)
    result["tps"] = round(len(latencies) / max(0.001, quiet_end - begin - 1), 1)
    result["commit_us"] = {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)}
    result["wal_bytes"] = parse_lsn(cluster.flush_position()) - wal_before
    views = {r["name"]: r for r in cluster.status("p")["primary"]["replicas"]}
    result["replicas"] = {name: {"lag_us": {level: {q: round(view["lag_us"][level][q], 1) for q in ("p50", "p99")}
                                            for level in ("received", "durable", "applied")}} for name, view in views.items()}
    return load


def blocking_replicas(policy):
    """Which single replicas the policy cannot do without: asked of the tool's own grammar by its size alone."""
    text = policy.upper()
    everyone = "ANY 2 (A, B)" in text or "FIRST 2" in text or text.startswith("2 (") or " AND " in text
    return {"a", "b"} if everyone else set()


def compare(cluster, screen, result):
    screen.step("comparing: the standbys' content and the replicas' logs with the primary's")
    end = cluster.flush_position()
    cluster.wait_replayed(end)
    result["standbys_identical"] = cluster.standbys_identical()
    for name in cluster.names:
        wait_for(f"replica {name}'s log to be final", lambda: parse_lsn(cluster.status(name)["replica"]["final_end"]) >= parse_lsn(end), 30)
    differences = [d for d in (cluster.log_difference(n) for n in cluster.names) if d]
    result["logs_identical"] = not differences
    for difference in differences:
        screen.note(difference)
    screen.note(f"standbys identical: {result['standbys_identical']}, logs identical: {result['logs_identical']}")


def lose_the_primary(cluster, screen, options, result, loads):
    load = IdLoad(cluster, options.clients, 60)
    loads.append(load)
    screen.step("load again, and under it the primary is lost for good: SIGKILL, its directories deleted")
    watch(cluster, screen, 3)
    cluster.lose_primary()
    load.wait(20)
    screen.step("slipstream fence on b, slipstream promote on a")
    evidence = cluster.sockets / "b.evidence"
    run(SLIPSTREAM, "fence", "-c", cluster.config_path("b"), "--candidate", "a", "-o", evidence)
    candidate, other = "a", "b"
    promote = [SLIPSTREAM, "promote", "-c", cluster.config_path("a"), "--evidence", evidence]
    done = run(*promote, check=False, timeout=180)
    if done.returncode == 7 and "promote b instead" in done.stderr:  # b holds the longer log: promotion says so.
        screen.note(done.stderr.strip().splitlines()[0])
        screen.step("b holds the better log: fence a for it, promote b")
        evidence = cluster.sockets / "a.evidence"
        run(SLIPSTREAM, "fence", "-c", cluster.config_path("a"), "--candidate", "b", "--supersede", "-o", evidence)
        candidate, other = "b", "a"
        done = run(SLIPSTREAM, "promote", "-c", cluster.config_path("b"), "--evidence", evidence, "--supersede", check=False, timeout=180)
    if done.returncode != 0:
        raise Failure(f"promote exited {done.returncode}\n{done.stdout}{done.stderr}")
    for line in done.stdout.strip().splitlines():
        screen.note(line)
    server = cluster.standbys[candidate]
    wait_for("the promoted server to take writes", lambda: server.sql("SELECT NOT pg_is_in_recovery()", check=False) == "t", 60)
    server.sql("INSERT INTO ids VALUES (0, 0, 0, 'written after the promotion')", timeout=30)
    lost = [missing for each in loads for missing in each.lost(server)]
    result["promoted"] = candidate
    result["acknowledged"] = sum(sum(each.acknowledged().values()) for each in loads)
    result["lost_acknowledged"] = len(lost)


def summary(screen, options, result):
    screen.step("summary")
    commit = result["commit_us"]
    screen.note(f"{result['tps']:.0f} commits a second, p50 {commit['p50'] / 1000:.2f} ms, p99 {commit['p99'] / 1000:.2f} ms at {options.clients} clients")
    for name, view in result["replicas"].items():
        lag = view["lag_us"]
        screen.note(f"replica {name}: lag p50 received {lag['received']['p50']:.0f} us, durable {lag['durable']['p50']:.0f} us, applied {lag['applied']['p50']:.0f} us")
    screen.note(f"killed replica caught up: {result['killed_replica_caught_up']}; standbys identical: {result['standbys_identical']};"
                f" logs identical: {result['logs_identical']}")
    screen.note(f"commits acknowledged to clients: {result['acknowledged']}; of these missing after losing the primary: {result['lost_acknowledged']}")


def good(result):
    return (result["killed_replica_caught_up"] and result["standbys_identical"] and result["logs_identical"] and result["acknowledged"] > 0
            and result["lost_acknowledged"] == 0)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    screen, result, loads = Screen(), {}, []
    cluster = Cluster(policy=options.policy, level=options.level)
    try:
        screen.step(f"starting a primary, two replicas over memif and two standbys in {cluster.dir}")
        cluster.start()
        loads.append(load_with_a_killed_replica(cluster, screen, options, result))
        compare(cluster, screen, result)
        lose_the_primary(cluster, screen, options, result, loads)
        summary(screen, options, result)
        if options.json:
            Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
        code = 0 if good(result) else 1
    except KeyboardInterrupt:
        screen.clear()
        print("interrupted; cleaning up", flush=True)
        code = 130
    except Failure as failure:
        screen.clear()
        print(f"demo failed: {failure}", file=sys.stderr)
        for name in ["p", "a", "b"]:
            print(f"--- end of daemon {name}'s log\n{cluster.daemon_log(name)}", file=sys.stderr)
        code = 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cluster.close(keep=options.keep)
        for load in loads:
            load.remove()
    if options.keep:
        print(f"kept: {cluster.dir}")
    return code


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
