"""What PostgreSQL's own settings let happen: commits without replicas, vacuum against a standby's queries."""

import subprocess
import time

from cluster import PG_BIN, PG_USER, SLIPSTREAM, Cluster, IdLoad, as_pg_user, environment, parse_lsn, run, wait_for
from scenario import check, promote_best, scenario


def set_names(cluster, names):
    cluster.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    cluster.primary.sql("SELECT pg_reload_conf()")


def marks(cluster, name):
    status = cluster.status(name)
    return status["primary" if name == "p" else "replica"]["not_held"] if status else None


def open_marks(cluster, names=("p", "a", "b")):
    return all((m := marks(cluster, name)) and m[-1]["to"] is None for name in names)


@scenario
def commits_without_replicas_are_marked():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        wait_for("the mark of the time before the names to be dropped", lambda: all(marks(cluster, n) == [] for n in ("p", "a", "b")), 30)
        check(True, "nothing is marked once all that came before the names is held everywhere")
        load = IdLoad(cluster, 2)
        time.sleep(1.5)
        held = cluster.status("p")["primary"]["committed"]["durable"]
        set_names(cluster, "")
        wait_for("the mark on both replicas and here", lambda: open_marks(cluster), 20)
        begin = marks(cluster, "a")[0]["from"]
        check(parse_lsn(held) <= parse_lsn(begin) <= parse_lsn(cluster.flush_position()), f"commits from {begin} on are marked on both replicas and here, while the load goes on")
        table = run(SLIPSTREAM, "status", "-c", cluster.config_path("a")).stdout
        check(f"not held   commits from {begin} on" in table, "status names it")

        set_names(cluster, "slipstream")
        wait_for("the mark to be closed and dropped", lambda: all(marks(cluster, n) == [] for n in ("p", "a", "b")), 30)
        check(True, "with the names back it is closed, and dropped when every replica holds all of it")
        cluster.wait_streaming()

        set_names(cluster, "")
        wait_for("the mark again", lambda: open_marks(cluster), 20)
        for name in ("a", "b"):
            cluster.daemons[name].kill()  # What returns now, no replica holds.
        time.sleep(2)
        cluster.lose_primary()
        for name in ("a", "b"):
            cluster.start_daemon(name)
        load.wait(30)
        wait_for("the replicas to answer", lambda: open_marks(cluster, ("a", "b")), 20)
        said = []
        promoted = promote_best(cluster, ["a", "b"], (), said)
        missing = load.lost(cluster.standbys[promoted])
        check(len(missing) > 0, f"{len(missing)} commits that returned without replicas are missing, as they must")
        check("MAY BE MISSING: commits from" in said[0] and "synchronous_standby_names did not always contain slipstream" in said[0], f"promote says so: {[l for l in said[0].splitlines() if 'MISSING' in l]}")
        load.remove()


class Reader:
    """A transaction on a standby that keeps its snapshot."""

    def __init__(self, server):
        self.popen = subprocess.Popen([str(PG_BIN / "psql"), "-XAtq", "-h", str(server.sockets), "-p", str(server.port), "-U", PG_USER, "-d", "postgres"], env=environment(), cwd="/",
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **as_pg_user())
        self.say("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_snapshot_xmin(txid_current_snapshot());")
        self.xmin = self.popen.stdout.readline().strip()

    def say(self, text):
        self.popen.stdin.write(text + "\n")
        self.popen.stdin.flush()

    def end(self):
        self.popen.stdin.close()
        self.popen.wait(10)


@scenario
def a_standbys_queries_hold_vacuum_back():
    with Cluster(policy="ANY 1 (a, b)") as cluster:
        cluster.start()
        held = lambda: cluster.primary.sql("SELECT coalesce(backend_xmin::text, 'none') FROM pg_stat_replication WHERE application_name = 'slipstream'")
        check(held() == "none", "without feedback nothing is held back")
        standby = cluster.standbys["a"]
        for setting in ("hot_standby_feedback = on", "wal_receiver_status_interval = '1s'"):
            standby.sql(f"ALTER SYSTEM SET {setting}")
        standby.sql("SELECT pg_reload_conf()")
        wait_for("feedback to arrive", lambda: held() != "none", 30)
        reader = Reader(standby)
        cluster.clients.append(reader)
        cluster.primary.sql("CREATE TABLE busy AS SELECT generate_series(1, 1000) AS n")
        for _ in range(20):
            cluster.primary.sql("UPDATE busy SET n = n + 1")
        cluster.wait_replayed(cluster.flush_position(), ["a"])
        wait_for("the primary to hold back what the reader needs", lambda: held() == reader.xmin, 30)
        time.sleep(3)
        check(held() == reader.xmin, f"the walsender's xmin is that of the standby's transaction, {reader.xmin}")
        check(cluster.status("p")["primary"]["standby_xmin"] == int(reader.xmin), "status names it")
        reader.end()
        cluster.clients.remove(reader)
        wait_for("it to go on after the transaction", lambda: held() not in ("none", reader.xmin) and int(held()) > int(reader.xmin), 30)
        check(True, "it moves on when the transaction ends")
        standby.sql("ALTER SYSTEM SET hot_standby_feedback = off")
        standby.sql("SELECT pg_reload_conf()")
        wait_for("it to be gone", lambda: held() == "none", 30)
        check(True, "and is gone when feedback is switched off")
