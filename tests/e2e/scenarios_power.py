"""A power cut on the primary: WAL that was shipped as soon as it was written, and never flushed, is gone from its disk, and other WAL comes in its place.

Killed processes lose nothing that they wrote, so the loss of the page cache is played: the walsender of the replication connection is stopped, so that nothing
is confirmed any more, more is written, every process of the server is killed, and its files are overwritten from the end of a record on that is at or behind all
that was confirmed.
"""

import os
import random
import signal
import time

from cluster import PG_BIN, Cluster, IdLoad, format_lsn, parse_lsn, run, wait_for
from kill_matrix import logs_are_readable
from scenario import Commit, check, identical, promote_best, scenario

PAGE = 8192


class Wal:
    """The primary's own files, by position."""

    def __init__(self, cluster):
        self.directory, self.size = cluster.primary.data / "pg_wal", cluster.wal_segsize << 20

    def pieces(self, begin, end):
        """(file, offset, count) for each segment of a range."""
        while begin < end:
            number, offset = divmod(begin, self.size)
            per_id = 0x100000000 // self.size
            count = min(end - begin, self.size - offset)
            yield self.directory / f"00000001{number // per_id:08X}{number % per_id:08X}", offset, count
            begin += count

    def read(self, begin, end):
        out = b""
        for path, offset, count in self.pieces(begin, end):
            with open(path, "rb") as file:
                file.seek(offset)
                out += file.read(count)
        return out

    def clear(self, begin, end):
        for path, offset, count in self.pieces(begin, end):
            with open(path, "r+b") as file:
                file.seek(offset)
                file.write(bytes(count))

    def segment_end(self, at):
        return at - at % self.size + self.size

    def record_ends(self, begin, end):
        """Where a record ends and the next begins behind it, without a page's header between them."""
        said = run(PG_BIN / "pg_waldump", "-p", self.directory, "-s", format_lsn(begin), "-e", format_lsn(end)).stdout
        begins = [parse_lsn(line.split("lsn: ")[1].split(",")[0]) for line in said.splitlines() if "lsn: " in line]
        return [at for at in begins[1:] if at % PAGE > 64]


def views(cluster, names):
    return {name: cluster.status(name)["replica"] for name in names}


def stop_walsender(cluster):
    walsender = int(cluster.primary.sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'slipstream'"))
    os.kill(walsender, signal.SIGSTOP)
    return walsender


def write_unconfirmed(cluster):
    """Returns the end of what replicas hold durably by then, and up to where anything can have been acknowledged or be final."""
    sql = cluster.primary.sql
    stop_walsender(cluster)
    for level in ("local", "off") * 3 + ("local",):
        sql(f"SET synchronous_commit = {level}; INSERT INTO unconfirmed SELECT g, repeat('y', 200) FROM generate_series(1, 200) g")
    end = parse_lsn(cluster.flush_position())
    wait_for(f"replicas to hold {format_lsn(end)} durably", lambda: all(parse_lsn(view["durable_end"]) >= end for view in views(cluster, cluster.names).values()), 10)
    reported = parse_lsn(sql("SELECT greatest(write_lsn, flush_lsn, replay_lsn) FROM pg_stat_replication WHERE application_name = 'slipstream'"))
    held = views(cluster, cluster.names)
    confirmed = parse_lsn(cluster.status("p")["primary"]["confirmed_end"])
    kept = max(reported, confirmed, *(parse_lsn(view["final_end"]) for view in held.values()))
    check(end - kept > 20 * PAGE, f"replicas hold {(end - kept) >> 10} KiB durably behind {format_lsn(kept)}, all that can have been acknowledged or is final")
    return {name: parse_lsn(view["durable_end"]) for name, view in held.items()}, kept


def lose_written(cluster, held, kept, stale):
    """Where the server's WAL ends from now on, and the bytes that were there. `stale`: pages behind a hole are left as they were."""
    wal, end = Wal(cluster), max(held.values())
    ends = wal.record_ends(kept - kept % PAGE, end - 10 * PAGE)
    cut = random.choice([at for at in ends if at >= kept][:40])
    old = wal.read(cut, end)
    hole_end = cut - cut % PAGE + random.randrange(1, 4) * PAGE
    wal.clear(cut, hole_end if stale else wal.segment_end(end))
    print(f"  a power cut leaves {format_lsn(cut)}{', then zeros up to ' + format_lsn(hole_end) + ', then what was there' if stale else ''}", flush=True)
    return cut, old


def check_nothing_goes_ahead(cluster):
    """While pages of the life before lie ahead of what PostgreSQL writes."""
    walsender = stop_walsender(cluster)
    before = parse_lsn(cluster.status("p")["primary"]["shipped_end"])
    cluster.primary.sql("SET synchronous_commit = local; INSERT INTO unconfirmed VALUES (0, 'ahead')")
    time.sleep(0.5)
    shipped, written = parse_lsn(cluster.status("p")["primary"]["shipped_end"]), parse_lsn(cluster.flush_position())
    os.kill(walsender, signal.SIGCONT)
    check(shipped <= before < written, f"with old pages ahead nothing is shipped before it is confirmed: {format_lsn(written)} is written, {format_lsn(shipped)} shipped")


def check_aside(cluster, name, cut, old, held):
    files = list((cluster.dir / f"replica_{name}" / "aside").glob(f"{cut:016X}-*"))
    check(len(files) == 1, f"{name} has set aside what it held behind {format_lsn(cut)}: {[file.name for file in files]}")
    kept, wanted = files[0].read_bytes(), old[:held - cut].rstrip(b"\0")
    check(kept[:len(wanted)] == wanted, f"its {len(kept)} bytes are those that the primary lost")
    log = (cluster.dir / f"{name}.log").read_text()
    check("is opened anew to cut it" in log and f"the log was cut at {format_lsn(cut)}" in log, f"{name} says that its log was cut")


def check_nothing_lost(loads, servers):
    for server in servers:
        missing = [each for load in loads for each in load.lost(server)]
        count = sum(sum(load.acknowledged().values()) for load in loads)
        check(count > 50 and not missing, f"{server.name} has all of {count} acknowledged commits: {missing[:5]}")


def power_cut(cluster, loads, stale, away=(), daemon_too=False):
    """Under load. `away`: replicas whose daemons are down meanwhile and come back when other WAL was written over the place. `daemon_too`: the primary's
    daemon ends with the server, as on a host that loses its power."""
    loads.append(IdLoad(cluster))
    time.sleep(1)
    held, kept = write_unconfirmed(cluster)
    for name in away:
        cluster.daemons[name].kill()
    if daemon_too:
        cluster.daemons["p"].kill()
    cluster.primary.kill()
    loads[-1].wait(20)
    cut, old = lose_written(cluster, held, kept, stale)
    cluster.primary.start()
    if daemon_too:
        cluster.start_daemon("p")
    present = [name for name in cluster.names if name not in away]
    cluster.wait_streaming(present, 20)
    check(Commit(cluster).returned(10), "the server writes other WAL, and commits go on without anybody's help")
    if stale:
        check_nothing_goes_ahead(cluster)
    if away:
        cluster.primary.sql("SET synchronous_commit = local; INSERT INTO unconfirmed SELECT g, repeat('z', 200) FROM generate_series(1, 3000) g")
        check(parse_lsn(cluster.flush_position()) > max(held.values()) + PAGE, f"it has written beyond what {', '.join(away)} holds")
    for name in away:
        cluster.start_daemon(name)
    loads.append(IdLoad(cluster))
    cluster.wait_streaming(timeout=20)
    time.sleep(1)
    loads[-1].end()
    for name in cluster.names:
        check_aside(cluster, name, cut, old, held[name])
    identical(cluster)
    logs_are_readable(cluster)
    check_nothing_lost(loads, [cluster.primary, *cluster.standbys.values()])


def cluster_to_cut(policy):
    # No page of data goes to disk before its WAL: the loss of the WAL alone is played, so nothing may be written back meanwhile.
    return Cluster(policy=policy, ship="written", settings={"bgwriter_lru_maxpages": "0", "checkpoint_timeout": "1h"})


def start_to_cut(cluster):
    cluster.start()
    cluster.primary.sql("CREATE TABLE unconfirmed (g int, filler text)")


def lose_and_promote(cluster, loads, members, options=()):
    loads.append(IdLoad(cluster))
    time.sleep(1)
    cluster.lose_primary()
    loads[-1].wait(20)
    server = cluster.standbys[promote_best(cluster, members, options)]
    check_nothing_lost(loads, [server])
    check(server.sql("CREATE TABLE afterwards (); SELECT 'written'", timeout=20) == "written", "the promoted server takes writes")
    for load in loads:
        load.remove()


@scenario
def a_power_cut_loses_what_was_written():
    with cluster_to_cut("ANY 2 (a, b)") as cluster:
        start_to_cut(cluster)
        loads = []
        power_cut(cluster, loads, stale=True)
        power_cut(cluster, loads, stale=False, daemon_too=True)
        lose_and_promote(cluster, loads, ["b"], ("--sole-survivor",))


@scenario
def a_replica_comes_back_after_a_power_cut():
    """The primary has meanwhile written other WAL over what the replica holds, and beyond: a difference in the midst, not a longer log."""
    with cluster_to_cut("ANY 1 (a, b)") as cluster:
        start_to_cut(cluster)
        loads = []
        power_cut(cluster, loads, random.random() < 0.5, away=["b"])
        lose_and_promote(cluster, loads, ["a", "b"])
